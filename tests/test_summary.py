"""The tables at the end of a run."""

import numpy as np
import pandas as pd

from jtrace.summary import COLUMNS, as_text, best_layers, steering_effects
from tests.tables import metrics_table, steered


def test_the_summary_names_the_best_layer_of_each_set_and_checkpoint():
    best = best_layers(metrics_table([20, 3]), "paper")
    assert tuple(best.columns) == COLUMNS
    assert list(best["checkpoint"]) == ["llama@step3", "llama@step20"] * 2
    assert set(best["best layer"]) == {2}
    np.testing.assert_allclose(best["accuracy"], [0.803, 0.82] * 2)
    assert "llama@step3" in as_text(best)


def test_what_steering_did_is_a_line_per_task_protocol_and_vector():
    table = pd.concat(
        [
            steered({-1: 0.6, 0: 0.5, 1: 0.8}),
            steered({1: 0.55}, source="ckpt_1:random", seed=3),
            steered({0: 20.0, 1: 30.0}, task="perplexity", metric="perplexity"),
            steered({0: 0.4, 1: 0.41}, task="toxigen", metric="toxicity", protocol="sound"),
            steered({1: 0.41}, task="toxigen", metric="chosen_toxicity", protocol="sound"),
        ]
    )
    found = steering_effects(table)
    assert found[["task", "protocol", "vector", "set", "metric", "layer", "strength"]].to_numpy().tolist() == [
        ["stereoset", "paper", "ckpt_1", "stereoset", "accuracy", 1, 1.0],
        ["toxigen", "sound", "ckpt_1", "stereoset", "toxicity", 1, 1.0],
    ]
    paper, sound = found.to_dict("records")
    assert (paper["unsteered"], paper["steered"], paper["beyond interval"]) == (0.5, 0.8, "yes")
    np.testing.assert_allclose([paper["gain"], paper["random's gain"], paper["perplexity ×"]], [0.3, 0.05, 1.5])
    # Less toxicity would be better.
    np.testing.assert_allclose(sound["gain"], -0.01)
    assert sound["beyond interval"] == "no"
    text = as_text(found)
    assert len(text.splitlines()) == 3
    assert "–" in text  # no random direction was tried under protocol sound


def test_columns_that_nothing_is_known_of_are_left_out():
    found = steering_effects(steered({0: 0.5, 1: 0.8}))
    assert "random's gain" not in found
    assert "perplexity ×" not in found


def test_without_steering_there_is_no_table():
    assert steering_effects(steered({0: 0.5})).empty
    assert steering_effects(steered({})).empty
