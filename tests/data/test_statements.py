"""Statements made in Python: what they are, and what is refused."""

import numpy as np
import pytest

from jtrace.data.statements import Statements
from jtrace.errors import InputError

TEXTS = ["Water is wet.", "Fire is cold."]
ASKED = [[{"role": "user", "content": "Is water wet?"}], [{"role": "user", "content": "Is fire cold?"}]]


def test_texts_and_labels_are_enough():
    statements = Statements(TEXTS, [1, 0])

    assert statements.texts == tuple(TEXTS)
    assert statements.labels.dtype == np.int8
    assert statements.groups is None
    assert statements.where(1) == "statements, statement 1"
    assert repr(statements) == "Statements('statements': 2 texts, 1 of label 1, 1 of label 0)"


@pytest.mark.parametrize("labels", [[True, False], np.array([1.0, 0.0]), (1, 0), np.array([1, 0], np.uint8)])
def test_labels_are_numbers_or_truth_values(labels):
    assert Statements(TEXTS, labels).labels.tolist() == [1, 0]


def test_labels_cannot_be_changed_afterwards():
    given = np.array([1, 0], np.int8)
    statements = Statements(TEXTS, given)
    given[:] = 0

    assert statements.labels.tolist() == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        statements.labels[0] = 0


def test_a_conversation_is_written_out_by_roles():
    statements = Statements([[*ASKED[0], {"role": "assistant", "content": "Yes."}], ASKED[1]], [1, 0])

    assert statements.texts == ("user: Is water wet?\nassistant: Yes.", "user: Is fire cold?")
    assert statements.chats[1] == ({"role": "user", "content": "Is fire cold?"},)
    assert "2 conversations" in repr(statements)
    # The same words as plain texts are other data: no template is applied to them.
    assert statements.fingerprint != Statements(statements.texts, [1, 0]).fingerprint


@pytest.mark.parametrize(
    ("texts", "labels", "groups", "message"),
    [
        (TEXTS, [1, 1], None, "statements: all 2 labels are 1; a probe needs both 0 and 1"),
        (TEXTS, [1, 2], None, "statements, statement 1: label 2 is not 0 or 1; mend it or drop the row"),
        (TEXTS, [1, float("nan")], None, "statement 1: label nan is not 0 or 1"),
        (TEXTS, ["yes", "no"], None, "statement 0: label 'yes' is not 0 or 1"),
        (TEXTS, [1], None, "statements: 1 labels for 2 statements; give one each"),
        (TEXTS, [[1, 0]], None, r"the labels have the shape \[1, 2\]; give a flat list of 0 and 1"),
        (TEXTS, [[1], [0, 1]], None, "the labels are no flat list"),
        (TEXTS, [1, 0], ["a"], "statements: 1 groups for 2 statements; give one each"),
        ([], [], None, "statements: has no rows; give at least one statement of each label"),
        ("Water is wet.", [1], None, "statements: one text alone; give a list of texts, and a label for each"),
        ([*TEXTS[:1], " "], [1, 0], None, "statement 1: the statement is empty"),
        ([*TEXTS[:1], "\ud83d"], [1, 0], None, "statement 1: statement .* holds half a surrogate pair"),
        ([*TEXTS[:1], 3], [1, 0], None, "statement 0: 'Water is wet.' is no list of messages; give all texts, or all"),
        ([ASKED[0], []], [1, 0], None, r"statement 1: \[\] is no list of messages"),
        ([ASKED[0], [{"role": "user"}]], [1, 0], None, "statement 1: .* is no message; give a 'role' and a 'content'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(texts, labels, groups, message):
    with pytest.raises(InputError, match=message):
        Statements(texts, labels, groups)
