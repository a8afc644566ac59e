"""Tables of steering, read."""

import pandas as pd
import pytest

from jtrace.checkpoints.names import in_order
from jtrace.runs.steering_files import reported
from jtrace.steering.results import Estimate, vectors
from tests.tables import steered, steering_table


def test_names_are_ordered_by_their_numbers():
    assert in_order(["step10", "step9", "x", "step100"]) == ["step9", "step10", "step100", "x"]
    assert in_order(["a", "1", "a1b"]) == ["1", "a", "a1b"]


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        (Estimate(0.5, 0.4, 0.6), None),
        (Estimate(0.5, 0.45, 0.55), False),
        (Estimate(0.8, 0.7, 0.9), True),
        (Estimate(0.2, 0.1, 0.3), True),
    ],
)
def test_intervals_are_apart_where_they_have_nothing_in_common(other, apart):
    one = Estimate(0.5, float("nan"), 0.6) if apart is None else Estimate(0.5, 0.4, 0.6)
    assert one.apart_from(other) is apart
    assert other.apart_from(one) is apart


def test_rows_of_the_choice_are_not_reported():
    table = pd.concat([steered({1: 0.5}, metric=name) for name in ("accuracy", "validation_accuracy", "chosen_mc2")])
    assert list(reported(table)["metric"]) == ["accuracy"]
    assert reported(steering_table([])).empty


def test_a_vector_is_named_by_source_and_kind():
    table = pd.concat([steered({0: 0.5, 1: 0.6}, source=name) for name in ("org--m@s1", "org--m@s1:random", "chat")])
    one, random, own = vectors(table)
    assert (one.source, one.kind, one.is_control, one.own) == ("org--m@s1", "", False, False)
    assert (random.source, random.kind, random.is_control) == ("org--m@s1", "random", True)
    assert own.own
    assert random.controls(one)
    assert not random.controls(own)
    assert not one.controls(one)


def test_what_was_not_steered_is_no_vector():
    unsteered = steered({0: 0.5}, source="")
    assert vectors(pd.concat([unsteered, unsteered.assign(vector_from=None), steered({0: 0.5})])) == []
    assert vectors(steering_table([])) == []


def test_strength_0_is_the_same_at_every_layer():
    (vector,) = vectors(pd.concat([steered({0: 0.5}, layer=1), steered({2: 0.7}, layer=5)]))
    assert vector.estimate("stereoset", "accuracy", 5, 0.0).value == 0.5
    assert vector.estimate("stereoset", "accuracy", 5, 2.0).value == 0.7
    assert vector.estimate("stereoset", "accuracy", 1, 2.0) is None


def test_costs_are_against_the_unsteered_model_and_none_where_not_measured():
    measured = [
        steered({0: 0.5, 1: 0.6}),
        steered({0: 10, 1: 15}, task="perplexity", metric="perplexity"),
        steered({0: 0.4, 1: 0.3}, task="mmlu"),
        steered({0: 0.8, 1: 0.6}, task="race"),
    ]
    (vector,) = vectors(pd.concat(measured))
    assert vector.perplexity_ratio(1, 1.0) == 1.5
    assert vector.capability_change(1, 1.0) == pytest.approx(-0.15)
    (bare,) = vectors(measured[0])
    assert bare.perplexity_ratio(1, 1.0) is None
    assert bare.capability_change(1, 1.0) is None
