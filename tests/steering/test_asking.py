"""Completions that a table's file holds: what of a batch need not be made again."""

import numpy as np

from jtrace.evaluation.task import Prompt, Task
from jtrace.steering.asking import KeptCompletions
from jtrace.steering.conditions import Batch
from jtrace.steering.vector import Condition

PLAIN, UP = Condition((1,), 0.0), Condition((1,), 1.0)
ITEMS = (Prompt(10, "a"), Prompt(11, "b"))
TASK = Task("open", ("paper",), ITEMS, lambda answers: {}, main="accuracy", max_new_tokens=3)
# The unsteered model's are kept of another layer: without steering all layers are one.
KEPT = KeptCompletions({((2, 0.0), 10): [1], ((2, 0.0), 11): [2], ((1, 1.0), 10): [3, 4]})


def test_an_item_is_known_where_all_columns_of_the_batch_are():
    (place,) = whole = KEPT.of_batch(ITEMS, Batch((PLAIN,), (UP,), ()))
    assert place == 0
    assert [tokens.tolist() for tokens in whole[0]] == [[1], [3, 4]]
    assert all(tokens.dtype == np.int32 for tokens in whole[0])
    assert list(KEPT.of_batch(ITEMS, Batch((PLAIN,), (), ()))) == [0, 1]
    assert list(KEPT.of_batch(ITEMS, Batch((), (UP,), ()))) == [0]


def test_a_line_is_in_the_file_under_its_own_layer_alone():
    assert KEPT.has(UP, 10)
    assert not KEPT.has(PLAIN, 10)
    assert KEPT.has(Condition((2,), 0.0), 10)


def test_the_unsteered_model_is_covered_where_every_item_is():
    assert KEPT.cover_unsteered(TASK)
    assert not KeptCompletions({((2, 0.0), 10): [1]}).cover_unsteered(TASK)
