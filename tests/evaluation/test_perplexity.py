"""Perplexity is over tokens, not documents; windows score every token but the first once, with enough before it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.errors import InputError
from jtrace.evaluation.perplexity import documents, part_at, parts, perplexity_task, windows
from jtrace.evaluation.task import Likelihood, Text


def measured(*answers):
    outcome = perplexity_task(["some text"] * len(answers)).measure(answers)["perplexity"]
    assert outcome.exponential
    return outcome


def perplexity(outcome):
    return math.exp(np.average(outcome.values, weights=outcome.weights))


def test_documents_are_numbered_or_kept_as_they_are():
    task = perplexity_task(["one", Text(7, "two", "group")], name="held-out")

    assert task.items == (Text(0, "one"), Text(7, "two", "group"))
    assert (task.name, task.protocols) == ("held-out", ("paper", "sound"))
    assert (task.main, task.higher_is_better, task.max_new_tokens) == ("perplexity", False, 0)


def test_a_uniform_guess_has_the_perplexity_of_its_choices():
    assert perplexity(measured(Likelihood(3 * math.log(10), 3))) == pytest.approx(10)


def test_long_documents_count_more():
    outcome = measured(Likelihood(math.log(2), 1), Likelihood(9 * math.log(4), 9))

    assert perplexity(outcome) == pytest.approx(math.exp((math.log(2) + 9 * math.log(4)) / 10))


def test_a_document_without_a_predicted_token_does_not_count():
    outcome = measured(Likelihood(0.0, 0), Likelihood(2 * math.log(5), 2))

    assert outcome.weights.tolist() == [0, 2]
    assert perplexity(outcome) == pytest.approx(5)


def test_a_document_is_cut_into_parts_that_follow_each_other():
    found = parts("0123456789", 4)
    assert found == [Text(0, "0123"), Text(1, "4567", follows=True), Text(2, "89", follows=True)]
    assert documents([*found, Text(3, "other"), *parts("ab", 1)]) == [[0, 1, 2], [3], [4, 5]]
    assert [part_at([4, 4, 2], share) for share in (0, 0.39, 0.4, 0.79, 0.8, 0.99)] == [0, 0, 1, 1, 2, 2]
    assert part_at([0], 0.5) == 0
    assert parts(" \n") == []


def test_windows_by_hand():
    assert windows(np.arange(10), width=5, stride=3) == [(0, 1, 5), (3, 5, 8), (5, 8, 10)]
    assert windows(np.arange(4), width=5, stride=3) == [(0, 1, 4)]
    assert windows(np.arange(5), width=5, stride=3) == [(0, 1, 5)]


@settings(deadline=None)
@given(count=st.integers(0, 60), width=st.integers(2, 20), data=st.data())
def test_every_token_but_the_first_is_scored_once_after_enough_others(count, width, data):
    stride = data.draw(st.integers(1, width - 1))
    found = windows(np.zeros(count, np.int64), width, stride)

    scored = [(i, start) for start, first_scored, stop in found for i in range(first_scored, stop)]
    assert [i for i, _ in scored] == list(range(1, count))
    assert all(i - start >= min(i, width - stride) for i, start in scored)
    for start, first_scored, stop in found:
        assert 0 <= start < first_scored < stop <= min(start + width, count)


@pytest.mark.parametrize(("width", "stride"), [(4, 0), (4, 4), (4, 5), (1, 1)])
def test_a_scored_token_needs_another_before_it(width, stride):
    with pytest.raises(InputError, match=f"windows of {width} tokens at a stride of {stride}: take a stride from 1 to"):
        windows(np.arange(9), width, stride)
