"""Checkpoints in order, curves of models, correlations over them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jtrace.dynamics.trajectory import (
    BY_CHECKPOINT,
    agreement,
    best_layer,
    briefly_named,
    correlations,
    evenly_chosen,
    trajectories,
    with_checkpoints,
)
from tests.tables import metrics_table, steering_table


def test_checkpoints_are_ordered_by_step_not_by_spelling():
    ordered = with_checkpoints(metrics_table([100, 20, 3]))["checkpoint"].cat.categories
    assert list(ordered) == ["llama@step3", "llama@step20", "llama@step100"]


def test_names_are_cut_to_what_tells_them_apart():
    one = briefly_named(with_checkpoints(metrics_table([3, 20], model="org/llama")))
    assert list(one["checkpoint"].cat.categories) == ["step3", "step20"]
    two = pd.concat([metrics_table([3], model="org/llama"), metrics_table([None], model="org/chat")])
    assert list(briefly_named(with_checkpoints(two))["checkpoint"].cat.categories) == ["chat", "llama@step3"]


def test_evenly_chosen_keeps_first_and_last():
    assert evenly_chosen(list(range(30)), 6) == [0, 6, 12, 17, 23, 29]
    assert evenly_chosen([4, 7], 6) == [4, 7]


def test_a_curve_goes_over_tokens_where_they_are_known_and_over_steps_where_not():
    (by_tokens,) = trajectories(metrics_table([10, 0, 2], tokens_per_step=64))
    assert (by_tokens.axis, list(by_tokens.places)) == ("pre-training tokens", [0, 128, 640])
    assert by_tokens.checkpoints == ["llama@step0", "llama@step2", "llama@step10"]
    (by_step,) = trajectories(metrics_table([10, 0, 2]))
    assert (by_step.axis, list(by_step.places)) == ("pre-training step", [0, 2, 10])


def test_a_model_traced_once_is_no_part_of_another_model_s_curve():
    both = pd.concat([metrics_table([0, 5, 60], tokens_per_step=64), metrics_table([60], model="chat")])
    (curve,) = trajectories(both)
    assert curve.model == "llama"
    assert set(curve.rows["model"]) == {"llama"}
    assert curve.axis == "pre-training tokens"


def test_each_model_has_its_own_curve():
    both = pd.concat([metrics_table([0, 5]), metrics_table([3, 9], model="other")])
    assert [curve.model for curve in trajectories(both)] == ["llama", "other"]


def test_a_checkpoint_without_a_step_is_left_out_by_name():
    both = pd.concat([metrics_table([0, 5]), metrics_table([None])])
    (curve,) = trajectories(both)
    assert curve.checkpoints == ["llama@step0", "llama@step5"]
    assert curve.left_out == ("llama",)


def test_checkpoints_published_as_models_of_their_own_are_taken_together():
    each = [metrics_table([step], model=f"tiny-{step}", tokens_per_step=64) for step in (900, 20)]
    (curve,) = trajectories(pd.concat(each))
    assert (curve.model, list(curve.places)) == ("", [1280, 57600])
    (unknown,) = trajectories(pd.concat([metrics_table([5], model="a"), metrics_table([None], model="b")]))
    assert unknown.axis == BY_CHECKPOINT
    assert list(unknown.places) == [0, 1]


def test_one_checkpoint_has_no_curve():
    assert trajectories(metrics_table([None])) == []
    assert trajectories(metrics_table([None]).iloc[:0]) == []


def test_the_best_layer_is_that_of_the_last_checkpoint():
    table = metrics_table([0, 5])
    early = (table["step"] == 0) & (table["layer"] == 1) & (table["metric"] == "probe_accuracy")
    table.loc[early, "value"] = 1.0
    (curve,) = trajectories(table)
    assert best_layer(curve.rows, "mine") == 2
    assert best_layer(curve.rows, "nothing") is None


def test_probes_agree_with_the_behaviour_of_unsteered_checkpoints_alone():
    (curve,) = trajectories(metrics_table([0, 5, 20, 100, 400], model="org/llama"))
    names = [name.replace("/", "--") for name in curve.checkpoints]
    steered = steering_table(names, strengths=[5.0]).assign(value=np.linspace(5, 0, 10))
    table = agreement(curve, pd.concat([steering_table(names), steered, steering_table(["chat"])]))
    assert list(table["dataset"]) == ["stereoset", "mine"]
    assert set(table["n"]) == {5}
    assert set(table["layer"]) == {2}
    expected = np.corrcoef([0, 5, 20, 100, 400], np.arange(5))[0, 1]
    np.testing.assert_allclose(table["r"], expected)
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)  # both rise


def test_without_behaviour_there_is_no_agreement():
    (curve,) = trajectories(metrics_table([0, 5, 20, 100]))
    assert agreement(curve, steering_table([])).empty
    assert agreement(curve, steering_table(["chat"])).empty


def wavy_table(steps):
    """Metrics over checkpoints that neither rise steadily nor stand still."""
    table = metrics_table(steps, model="org/llama")
    waves = {"probe_accuracy": 1.0, "mi_xt": -1.0, "mi_yt": 0.5}
    shift = table["metric"].map(waves).fillna(0) * np.sin(table["step"].astype(float)) / 10
    return table.assign(value=table["value"] + shift)


def test_correlations_are_of_the_best_layer_s_curves_in_order():
    shuffled = wavy_table(range(8)).sample(frac=1, random_state=0)
    (curve,) = trajectories(shuffled)
    table = correlations(curve, steering_table([]), ("probe_accuracy", "mi_xt", "mi_yt"))
    mine = table[table["dataset"] == "mine"]
    assert list(zip(mine["x"], mine["y"], strict=True)) == [
        ("probe_accuracy", "mi_xt"), ("probe_accuracy", "mi_yt"), ("mi_xt", "mi_yt")
    ]  # fmt: skip
    assert set(mine["layer"]) == {2}
    assert set(mine["n"]) == {8}
    step = np.arange(8.0)
    probe, mi = step / 1000 + np.sin(step) / 10, step / 1000 - np.sin(step) / 10
    first = mine.iloc[0]
    np.testing.assert_allclose(
        first[["pearson", "spearman", "changes"]].to_numpy(float),
        [
            stats.pearsonr(probe, mi).statistic,
            stats.spearmanr(probe, mi).statistic,
            stats.pearsonr(np.diff(probe), np.diff(mi)).statistic,
        ],
    )
    # Eight checkpoints of one wave have no eight independent changes.
    assert table.filter(regex="_low$|_high$").isna().all(axis=None)


def test_correlations_take_in_behaviour_and_leave_out_what_is_too_short():
    (curve,) = trajectories(wavy_table(range(8)))
    # The later checkpoints come first in the table, as file names are sorted.
    names = [name.replace("/", "--") for name in curve.checkpoints][::-1]
    behaviour = steering_table(names).assign(value=np.repeat(np.cos(np.arange(8.0))[::-1], 2))
    table = correlations(curve, behaviour, ("probe_accuracy", "mi_xt"))
    mine = table[(table["dataset"] == "mine") & (table["y"] == "questions:accuracy")].set_index("x")
    assert list(mine.index) == ["probe_accuracy", "mi_xt"]
    step = np.arange(8.0)
    expected = stats.pearsonr(np.diff(step / 1000 + np.sin(step) / 10), np.diff(np.cos(step))).statistic
    assert mine.loc["probe_accuracy", "changes"] == pytest.approx(expected)
    (short,) = trajectories(wavy_table(range(4)))
    assert correlations(short, steering_table([]), ("probe_accuracy", "mi_xt")).empty
