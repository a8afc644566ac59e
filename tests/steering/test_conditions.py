"""Batches: which conditions are computed together, and when the unsteered model is asked."""

from jtrace.steering import conditions
from jtrace.steering.conditions import Batch, Plan, batches
from jtrace.steering.vector import Condition

DOWN, PLAIN, UP = (Condition((1,), strength) for strength in (-1.0, 0.0, 1.0))
OTHER_LAYER = Condition((2,), 0.0)
PLAN = Plan("stereoset", (DOWN, PLAIN, UP))


def planned(*missing, measured=False):
    return [batch.columns for batch in batches(PLAN, missing, measured=measured)]


def test_the_unsteered_model_is_asked_first_and_by_itself():
    assert planned(DOWN, PLAIN, UP) == [((PLAIN,),), ((DOWN,), (UP,))]


def test_all_conditions_of_strength_0_are_one_model():
    assert planned(PLAIN, OTHER_LAYER) == [((PLAIN, OTHER_LAYER),)]


def test_others_are_compared_with_it_though_its_rows_are_there_or_not_wanted():
    assert planned(UP) == [((Condition((1,), 0.0),),), ((UP,),)]
    assert planned(UP, measured=True) == [((UP,),)]


def test_what_else_is_missing_decides_no_batch_of_it():
    first, *_ = planned(PLAIN, UP)
    assert planned(PLAIN) == planned(PLAIN, measured=True) == [first]


def test_no_batch_is_larger_than_what_is_computed_at_once(monkeypatch):
    monkeypatch.setattr(conditions, "MOST_CONDITIONS", 1)
    assert planned(DOWN, PLAIN, UP) == [((PLAIN,),), ((DOWN,),), ((UP,),)]


def test_a_batch_numbers_its_conditions_as_edits_do():
    unsteered, steered = Batch(((PLAIN, OTHER_LAYER),)), Batch(((DOWN,), (UP,)))
    assert (unsteered.unsteered, unsteered.numbers, unsteered.steered) == (True, [0], ())
    assert (steered.unsteered, steered.numbers, steered.steered) == (False, [1, 2], (DOWN, UP))
