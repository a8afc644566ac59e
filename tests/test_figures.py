"""Figures and summary from the metrics table alone."""

import numpy as np
import pandas as pd
import pytest

from jtrace.figures import draw_all, evenly_chosen, with_checkpoints
from jtrace.summary import COLUMNS, as_text, best_layers

LONG = "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints"


def table(steps, layers=4, datasets=("stereoset", "mine"), model="llama"):
    """A metrics table whose probe accuracy peaks at layer 2."""
    rows = [
        {
            "model": model,
            "revision": "" if step is None else f"step{step}",
            "step": step,
            "tokens": None,
            "dataset": dataset,
            "dimension": "fairness" if dataset == "stereoset" else "",
            "layer": layer,
            "protocol": "paper",
            "metric": metric,
            "value": value - abs(layer - 2) / 10 + (step or 0) / 1000,
        }
        for step in steps
        for dataset in datasets
        for layer in range(layers)
        for metric, value in (("probe_accuracy", 0.8), ("probe_auroc", 0.9), ("mi_xt", 5.0), ("mi_yt", 0.5))
    ]
    return pd.DataFrame(rows).astype({"step": "Int64", "tokens": "Int64"})


@pytest.mark.parametrize(
    ("metrics", "views"),
    [
        pytest.param(table([None]), {"layers"}, id="one checkpoint"),
        pytest.param(table([0, 20, 100]), {"layers", "checkpoints"}, id="steps"),
        pytest.param(pd.concat([table([5]), table([None], model="chat")]), {"layers", "checkpoints"}, id="two models"),
        pytest.param(table([5, 20], datasets=["mine"], model=LONG), {"layers", "checkpoints"}, id="a long hub id"),
        pytest.param(
            pd.concat([table([5], datasets=["mine"], model=LONG), table([7], datasets=["mine"], model=LONG + "-2")]),
            {"layers", "checkpoints"},
            id="two long hub ids",
        ),
        pytest.param(table(range(0, 400, 10), layers=32), {"layers", "checkpoints"}, id="forty checkpoints, 32 layers"),
    ],
)
def test_every_figure_is_drawn_as_png_and_pdf(tmp_path, metrics, views):
    drawn = draw_all(metrics, tmp_path)
    expected = {f"{what}_over_{view}_paper" for what in ("probe_accuracy", "information") for view in views}
    assert {path.stem for path in drawn} == expected
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_checkpoints_are_ordered_by_step_not_by_spelling():
    ordered = with_checkpoints(table([100, 20, 3]))["checkpoint"].cat.categories
    assert list(ordered) == ["llama@step3", "llama@step20", "llama@step100"]


def test_evenly_chosen_keeps_first_and_last():
    assert evenly_chosen(list(range(30))) == [0, 6, 12, 17, 23, 29]
    assert evenly_chosen([4, 7]) == [4, 7]


def test_the_summary_names_the_best_layer_of_each_set_and_checkpoint():
    best = best_layers(table([20, 3]), "paper")
    assert tuple(best.columns) == COLUMNS
    assert list(best["checkpoint"]) == ["llama@step3", "llama@step20"] * 2
    assert set(best["best layer"]) == {2}
    np.testing.assert_allclose(best["accuracy"], [0.803, 0.82] * 2)
    assert "llama@step3" in as_text(best)
