"""Checkpoints in order, curves of models, correlations over them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.dynamics import (
    BY_CHECKPOINT,
    agreement,
    best_layer,
    briefly_named,
    evenly_chosen,
    pearson,
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


def test_pearson_s_interval_is_that_of_fisher_s_z():
    x = np.arange(28.0)
    noise = np.random.default_rng(0).normal(size=28) * 12
    found = pearson(x, x + noise)
    assert found is not None
    assert found.r == pytest.approx(np.corrcoef(x, x + noise)[0, 1])
    # With n = 28 the standard error of z is a fifth.
    np.testing.assert_allclose(
        np.arctanh([found.ci_low, found.ci_high]) - np.arctanh(found.r), [-0.392, 0.392], atol=1e-4
    )
    assert found.n == 28


@given(st.lists(st.floats(-10, 10), min_size=4, max_size=20))
def test_pearson_lies_in_its_interval_and_that_within_one(values):
    found = pearson(np.arange(float(len(values))), np.array(values))
    if found is not None:
        assert -1 <= found.ci_low <= found.r <= found.ci_high <= 1


def test_what_never_varies_or_is_too_short_has_no_correlation():
    assert pearson(np.arange(5.0), np.ones(5)) is None
    assert pearson(np.arange(3.0), np.arange(3.0)) is None


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


def test_without_behaviour_there_is_no_agreement():
    (curve,) = trajectories(metrics_table([0, 5, 20, 100]))
    assert agreement(curve, steering_table([])).empty
    assert agreement(curve, steering_table(["chat"])).empty
