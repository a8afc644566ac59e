"""Batches: which conditions are computed together, and when the unsteered model is asked."""

import pytest

from jtrace.steering import conditions
from jtrace.steering.conditions import Batch, Plan, batches
from jtrace.steering.vector import Condition

DOWN, PLAIN, UP = (Condition((1,), strength) for strength in (-1.0, 0.0, 1.0))
OTHER_LAYER = Condition((2,), 0.0)
PLAN = Plan("stereoset", (DOWN, PLAIN, UP))


def planned(*missing, generates=True, measured=False, kept=False):
    return batches(PLAN, missing, generates=generates, measured=measured, kept=kept)


@pytest.mark.parametrize("generates", [True, False])
def test_the_unsteered_model_is_asked_beside_the_others_where_its_rows_are_missing(generates):
    assert planned(DOWN, PLAIN, UP, generates=generates) == [Batch((PLAIN,), (DOWN, UP), (DOWN, UP, PLAIN))]


def test_all_conditions_of_strength_0_are_one_model():
    assert planned(PLAIN, OTHER_LAYER) == [Batch((PLAIN, OTHER_LAYER), (), (PLAIN, OTHER_LAYER))]


def test_where_only_others_are_missing_it_is_measured_first_and_by_itself():
    assert planned(UP) == [Batch((Condition((1,), 0.0),), (), ()), Batch((), (UP,), (UP,))]


def test_completions_that_are_kept_are_not_made_again_beside_others():
    assert planned(PLAIN, UP, kept=True) == [Batch((PLAIN,), (), ()), Batch((), (UP,), (UP, PLAIN))]
    assert planned(PLAIN, UP, kept=True, measured=True) == planned(PLAIN, UP, kept=True)


def test_a_model_that_is_measured_is_asked_again_only_for_completions_of_another_table():
    assert planned(PLAIN, UP, measured=True) == [Batch((PLAIN,), (UP,), (UP, PLAIN))]
    assert planned(PLAIN, UP, measured=True, generates=False) == [Batch((), (UP,), (UP, PLAIN))]
    assert planned(PLAIN, measured=True, generates=False) == [Batch((), (), (PLAIN,))]
    assert planned(UP, measured=True) == [Batch((), (UP,), (UP,))]


def test_no_batch_is_larger_than_what_is_computed_at_once(monkeypatch):
    monkeypatch.setattr(conditions, "MOST_CONDITIONS", 1)
    assert planned(DOWN, PLAIN, UP) == [Batch((PLAIN,), (DOWN,), (DOWN, PLAIN)), Batch((), (UP,), (UP,))]


def test_a_batch_numbers_its_conditions_as_edits_do():
    assert (Batch((PLAIN, OTHER_LAYER), (DOWN, UP), ()).numbers, Batch((), (UP,), ()).numbers) == ([0, 1, 2], [1])
    assert Batch((PLAIN, OTHER_LAYER), (UP,), ()).columns == [(PLAIN, OTHER_LAYER), (UP,)]
