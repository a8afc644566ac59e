"""From a run's metrics, behaviour and vectors to the tables of RUN/dynamics."""

import numpy as np
import pandas as pd
import pytest

from jtrace.dynamics.tables import dynamics
from jtrace.probing.vector_files import Vectors
from jtrace.runs.metrics_files import SCHEMA
from jtrace.runs.steering_files import COLUMNS as STEERING_COLUMNS

COLUMNS = {
    "onsets": "model axis protocol dataset dimension layer metric line checkpoint at ci_low ci_high",
    "change_points": "model axis protocol dataset dimension layer metric number checkpoint at ci_low ci_high "
    "slope_before slope_after",
    "turns": "model axis protocol dataset dimension layer metric checkpoint at ci_low ci_high rise fall p",
    "angles": "model kind dataset other_dataset checkpoint other_checkpoint layer other_layer cosine",
    "subspaces": "model layer checkpoint other_checkpoint number degrees",
    "correlations": "model protocol dataset dimension layer x y n pearson pearson_low pearson_high spearman "
    "spearman_low spearman_high changes changes_low changes_high",
}
STEPS = np.arange(16)
INFORMATION = np.interp(STEPS, [0, 9, 15], [0, 0.5, 0.2])
# Concept forms at step 6; the rise of I(X;T) ends at step 9.
CURVES = {
    "probe_accuracy": np.where(STEPS >= 6, 0.9, 0.55),
    "text_accuracy": np.full(16, 0.7),
    "majority_accuracy": np.full(16, 0.6),
}
PAPER = CURVES | {"mi_xt": INFORMATION, "mi_yt": 0.1 * INFORMATION}
SOUND = CURVES | {
    "gain_over_text": np.where(STEPS >= 6, 0.2, -0.05),
    "gain_over_random_init": np.where(STEPS >= 4, 0.1, 0.0),
    "chosen_layer_gain": np.where(STEPS >= 7, 0.1, -0.05),
    "mi_xt_excess": INFORMATION,
    "mi_yt_excess": np.where(STEPS >= 8, 0.3, 0.0),
}


def table(curves, protocol, half=None, layers=(1, 2), datasets=("mine", "other"), steps=STEPS, model="org/llama"):
    """A metrics table of these curves, a little noise on all but the levels; intervals ± `half` where given."""
    random = np.random.default_rng(0)
    rows = [
        {
            "model": model,
            "revision": f"step{step}",
            "step": step,
            "tokens": 1000 * step,
            "dataset": dataset,
            "dimension": "fairness",
            "layer": layer,
            "protocol": protocol,
            "metric": metric,
            "value": value,
            "ci_low": value - half if half and metric not in ("text_accuracy", "majority_accuracy") else np.nan,
            "ci_high": value + half if half and metric not in ("text_accuracy", "majority_accuracy") else np.nan,
            "n": 500,
            "seed": 0,
        }
        for step in steps
        for dataset in datasets
        for layer in layers
        for metric, curve in curves.items()
        if metric != "chosen_layer_gain" or layer == layers[-1]
        for value in [curve[step] + (0 if metric in ("text_accuracy", "majority_accuracy") else random.normal() / 200)]
    ]
    return pd.DataFrame(rows, columns=SCHEMA.names).astype({"step": "Int64", "tokens": "Int64"})


def behaviour(values, target="org--llama@step{}"):
    """Unsteered accuracy of each step."""
    rows = [{"target": target.format(step), "vector_from": "", "vector_set": "", "layer": 0, "strength": 0.0,
             "positions": "last", "task": "questions", "metric": "accuracy", "value": value, "ci_low": value,
             "ci_high": value, "n": 100, "protocol": "paper", "seed": 0}
            for step, value in enumerate(values)]  # fmt: skip
    return pd.DataFrame(rows, columns=list(STEERING_COLUMNS))


NO_BEHAVIOUR = behaviour([])


def no_vectors(name):
    return None


def numbers(frame):
    return frame.select_dtypes("number").to_numpy(float)


@pytest.fixture(name="found", scope="module")
def _found():
    """The tables of both protocols, with behaviour and vectors."""
    random = np.random.default_rng(1)

    def read(name):
        assert "/" not in name
        arrays = {dataset: random.normal(size=(2, 8)).astype(np.float32) for dataset in ("mine", "other")}
        return Vectors(name, "mass_mean", arrays, (1, 2), dict.fromkeys(arrays), None)

    both = pd.concat([table(PAPER, "paper"), table(SOUND, "sound", half=0.02)], ignore_index=True)
    return dynamics(both, behaviour(np.linspace(0.3, 0.8, 16) + 0.02 * random.normal(size=16)), read)


def test_every_table_has_its_columns(found):
    assert {name: " ".join(frame.columns) for name, frame in found.items()} == COLUMNS
    assert all(len(frame) for frame in found.values())


def test_tables_have_no_nan_but_intervals_that_cannot_be_given(found):
    for name, frame in found.items():
        # A correlation of curves that rise has no interval.
        known = frame.drop(columns=frame.filter(regex="_low$|_high$").columns) if name == "correlations" else frame
        assert np.isfinite(numbers(known)).all()
        assert not known.isna().any(axis=None)


def test_onsets_are_of_paired_gains_and_of_information_above_its_null(found):
    onsets = found["onsets"]
    # The paper's protocol has no intervals.
    assert set(onsets["protocol"]) == {"sound"}
    by_metric = dict(iter(onsets.groupby("metric")))
    line = "the largest of text_accuracy, majority_accuracy, random_init_accuracy and 0.5"
    expected = {"chosen_layer_gain": ("org/llama@step7", line, 2), "probe_accuracy": ("org/llama@step6", line, 4),
                "mi_yt_excess": ("org/llama@step8", "0", 4)}  # fmt: skip
    for metric, (checkpoint, against, count) in expected.items():
        rows = by_metric[metric]
        assert (set(rows["checkpoint"]), set(rows["line"]), len(rows)) == ({checkpoint}, {against}, count)
    assert (onsets["axis"] == "pre-training tokens").all()


def test_a_layer_s_onset_asks_for_both_gains():
    high = SOUND | {"gain_over_random_init": np.full(16, -0.05)}
    onsets = dynamics(table(high, "sound", half=0.02), NO_BEHAVIOUR, no_vectors)["onsets"]
    never = onsets[onsets["metric"] == "probe_accuracy"]
    assert set(never["checkpoint"]) == {""}
    assert never[["at", "ci_low", "ci_high"]].isna().all(axis=None)


def test_the_layer_of_a_set_s_onset_is_the_one_chosen_at_the_last_checkpoint():
    rows = table(SOUND, "sound", half=0.02, datasets=["mine"])
    early = (rows["metric"] == "chosen_layer_gain") & (rows["step"] < 12)
    rows.loc[early, "layer"] = 1
    onsets = dynamics(rows, NO_BEHAVIOUR, no_vectors)["onsets"]
    (row,) = onsets[onsets["metric"] == "chosen_layer_gain"].to_dict("records")
    assert (row["layer"], row["checkpoint"]) == (2, "org/llama@step7")


def test_curves_without_intervals_have_no_onset():
    assert dynamics(table(SOUND, "sound"), NO_BEHAVIOUR, no_vectors)["onsets"].empty


def test_change_points_and_turns_are_where_they_were_planted(found):
    changes = found["change_points"]
    probes = changes[changes["metric"] == "probe_accuracy"]
    assert set(probes["checkpoint"]) == {"org/llama@step6"}
    assert set(probes["number"]) == {1}
    assert set(changes["metric"]) == {"probe_accuracy", "mi_xt", "mi_yt", "mi_xt_excess", "mi_yt_excess"}
    turns = found["turns"]
    assert dict(turns.groupby("protocol")["metric"].unique().explode()) == {"paper": "mi_xt", "sound": "mi_xt_excess"}
    assert len(turns) == 8
    assert (abs(turns["at"] - 9000) <= 1000).all()
    assert (turns["p"] <= 0.05).all()
    assert ((turns["ci_low"] <= turns["at"]) & (turns["at"] <= turns["ci_high"])).all()
    np.testing.assert_allclose(turns["rise"], 0.5, atol=0.03)
    np.testing.assert_allclose(turns["fall"], 0.3, atol=0.03)


def test_correlations_are_of_probes_information_and_behaviour(found):
    together = found["correlations"]
    pairs = together[(together["protocol"] == "sound") & (together["dataset"] == "mine")]
    behaved = "questions:accuracy (paper)"
    assert list(zip(pairs["x"], pairs["y"], strict=True)) == [
        ("probe_accuracy", "mi_xt_excess"),
        ("probe_accuracy", "mi_yt_excess"),
        ("mi_xt_excess", "mi_yt_excess"),
        ("probe_accuracy", behaved),
        ("mi_xt_excess", behaved),
        ("mi_yt_excess", behaved),
    ]
    assert set(together["n"]) == {16}


def test_angles_belong_to_no_protocol_and_name_the_model(found):
    assert set(found["angles"]["model"]) == set(found["subspaces"]["model"]) == {"org/llama"}
    assert not found["angles"].duplicated(["kind", "dataset", "other_dataset", "checkpoint", "other_checkpoint",
                                           "layer", "other_layer"]).any()  # fmt: skip


def test_the_same_run_gives_the_same_tables_whatever_the_order_of_its_rows():
    rows = table(SOUND, "sound", half=0.02)
    one, same = (dynamics(rows, NO_BEHAVIOUR, no_vectors) for _ in range(2))
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, same[name])
    other = dynamics(rows.sample(frac=1, random_state=0), NO_BEHAVIOUR, no_vectors)
    for name in ("onsets", "turns"):
        by = ["dataset", "layer", "metric"]
        pd.testing.assert_frame_equal(
            one[name].sort_values(by, ignore_index=True), other[name].sort_values(by, ignore_index=True)
        )


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_short_runs_have_tables_without_nan(count):
    tables = dynamics(table(SOUND, "sound", half=0.02, steps=STEPS[:count]), NO_BEHAVIOUR, no_vectors)
    assert {name: " ".join(frame.columns) for name, frame in tables.items()} == COLUMNS
    assert len(tables["onsets"]) == (10 if count > 1 else 0)
    assert all(tables[name].empty for name in COLUMNS if name != "onsets")
