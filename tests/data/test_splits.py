"""The published split: a prefix trains, the rest tests, in file order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.data.splits import leading_rows, prefix_split
from jtrace.errors import InputError

ALTERNATING = np.arange(2263, dtype=np.int8) % 2


def test_the_published_test_split_of_truthfulqa_has_453_rows():
    split = prefix_split(ALTERNATING)

    assert split.train.tolist() == list(range(1810))
    assert split.test.tolist() == list(range(1810, 2263))
    assert split.train.dtype == split.test.dtype == np.int64


@settings(deadline=None)
@given(n=st.integers(3, 400), fraction=st.floats(0.1, 0.99))
def test_every_row_is_in_one_part_in_file_order(n, fraction):
    labels = ALTERNATING[:n]
    if not 2 <= int(fraction * n) < n:
        with pytest.raises(InputError):
            prefix_split(labels, fraction)
        return
    split = prefix_split(labels, fraction)

    assert np.concatenate([split.train, split.test]).tolist() == list(range(n))
    assert len(split.train) == int(fraction * n)


def test_the_vector_rows_are_the_leading_ones():
    assert leading_rows(ALTERNATING[:7], 0.5, "any").tolist() == [0, 1, 2]
    assert leading_rows(ALTERNATING[:7], 1.0, "any").tolist() == list(range(7))


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        ([], 0.8, "toy: the first 0 of 0 rows have no label 0 or 1"),
        ([1], 0.8, "toy: the first 0 of 1 rows have no label 0 or 1"),
        ([1, 0], 0.8, "toy: the first 1 of 2 rows have no label 0"),
        ([1, 1, 1, 1, 0], 0.8, "toy: the first 4 of 5 rows have no label 0"),
        ([0, 0, 0, 0, 1], 0.8, "toy: the first 4 of 5 rows have no label 1"),
        ([0, 1, 0], 1.0, "toy: a test part is missing, all 3 rows train"),
    ],
)
def test_too_few_rows_for_the_split(labels, fraction, message):
    with pytest.raises(InputError) as caught:
        prefix_split(np.array(labels, np.int8), fraction, "toy")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_vector_rows_must_hold_both_labels():
    with pytest.raises(InputError, match="toy: the first 2 of 4 rows have no label 1"):
        leading_rows(np.array([0, 0, 1, 1]), 0.5, "toy")
