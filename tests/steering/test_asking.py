"""Completions that a table's file holds: what of a batch need not be made again."""

import numpy as np

from jtrace.evaluation.task import Prompt
from jtrace.steering.asking import KeptCompletions
from jtrace.steering.conditions import Batch
from jtrace.steering.vector import Condition

DOWN, PLAIN, UP = (Condition((1,), strength) for strength in (-1.0, 0.0, 1.0))
ITEMS = (Prompt(10, "a"), Prompt(11, "b"))
# The unsteered model's are kept of another layer: without steering all layers are one.
KEPT = KeptCompletions(
    {((2, 0.0), 10): [1], ((2, 0.0), 11): [2], ((1, 1.0), 10): [3, 4], ((1, 1.0), 11): [6], ((1, -1.0), 10): [5]}
)


def test_an_item_is_known_where_all_columns_of_the_batch_are():
    both = KEPT.of_batch(ITEMS, Batch(((UP,), (DOWN,))))
    assert [tokens.tolist() for tokens in both[0]] == [[3, 4], [5]]
    assert all(tokens.dtype == np.int32 for tokens in both[0])
    assert list(both) == [0]
    assert list(KEPT.of_batch(ITEMS, Batch(((UP,),)))) == [0, 1]


def test_the_unsteered_model_is_known_from_every_layer_s_lines():
    assert {place: row[0].tolist() for place, row in KEPT.of_batch(ITEMS, Batch(((PLAIN,),))).items()} == {
        0: [1],
        1: [2],
    }


def test_a_line_is_in_the_file_under_its_own_layer_alone():
    assert KEPT.has(UP, 10)
    assert not KEPT.has(PLAIN, 10)
    assert KEPT.has(Condition((2,), 0.0), 10)
