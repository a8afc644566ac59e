"""The published split, a prefix in file order, and the sound ones, in which no group is on both sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.data.groups import groups_of
from jtrace.data.loading import read_statements
from jtrace.data.registry import BUILTIN
from jtrace.data.splits import (
    FEWEST_INDEPENDENT,
    grouped_folds,
    leading_rows,
    one_per_group,
    prefix_split,
    repeated_folds,
)
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


@st.composite
def grouped_sets(draw):
    """Labels and groups of 20 to 120 rows: alone, in groups of one label, or in groups of both."""
    groups = np.array(draw(st.lists(st.integers(0, draw(st.integers(12, 60))), min_size=20, max_size=120)))
    by_group = draw(st.booleans())
    labels = groups % 2 if by_group else np.array(draw(st.lists(st.integers(0, 1), min_size=120, max_size=120)))
    return labels[: len(groups)].astype(np.int8), groups


def apart(groups, *parts):
    """Whether no group has rows in two of the parts."""
    return sum(len(np.unique(groups[part])) for part in parts) == len(np.unique(groups[np.concatenate(parts)]))


def both_labels(labels, rows):
    return set(labels[rows]) == {0, 1}


@settings(deadline=None)
@given(grouped_sets(), st.integers(2, 6), st.integers(0, 3))
def test_folds_part_no_group_and_leave_both_labels_to_train_on(rows, count, seed):
    labels, groups = rows
    try:
        fold_of = grouped_folds(labels, groups, count, seed)
    except InputError:
        # Nothing else stands in the way than too few groups, of all or of one label.
        assert len(np.unique(groups)) < count or min(len(np.unique(groups[labels == y])) for y in (0, 1)) < 3
        return
    assert fold_of.dtype == np.int64
    assert set(fold_of) == set(range(count))
    assert apart(groups, *(np.flatnonzero(fold_of == fold) for fold in range(count)))
    assert all(both_labels(labels, fold_of != fold) for fold in range(count))


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), min_size=20, max_size=200).filter(lambda y: 2 <= sum(y) <= len(y) - 2))
def test_rows_that_are_alone_are_stratified_to_within_one(labels):
    labels = np.array(labels)
    fold_of = grouped_folds(labels, np.arange(len(labels)), 5, 0)
    for label in (0, 1):
        assert np.ptp(np.bincount(fold_of[labels == label], minlength=5)) <= 1


def test_groups_of_any_size_make_folds_alike_in_size_and_labels():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), random.integers(1, 12, 200))
    labels = (random.random(len(groups)) < 0.3).astype(int)
    fold_of = grouped_folds(labels, groups, 5, 0)
    for rows in (fold_of, fold_of[labels == 1]):
        assert np.ptp(np.bincount(rows)) <= 3


def test_questions_with_an_answer_of_each_label_stay_whole():
    labels, groups = ALTERNATING[:100], np.arange(100) // 2
    fold_of = grouped_folds(labels, groups, 5, 0)
    assert np.bincount(fold_of[labels == 1]).tolist() == np.bincount(fold_of[labels == 0]).tolist() == [10] * 5


@settings(deadline=None, max_examples=50)
@given(grouped_sets(), st.integers(1, 2), st.integers(1, 3), st.integers(0, 3))
def test_every_row_is_held_out_once_a_repeat_and_inner_splits_lie_within_training(rows, repeats, inner, seed):
    labels, groups = rows
    try:
        found = repeated_folds(labels, groups, 4, repeats, inner, seed)
    except InputError:
        return
    assert [fold.repeat for fold in found] == [repeat for repeat in range(repeats) for _ in range(4)]
    for repeat in range(repeats):
        tested = np.concatenate([fold.test for fold in found if fold.repeat == repeat])
        assert np.sort(tested).tolist() == list(range(len(labels)))
    for fold in found:
        assert apart(groups, fold.train, fold.test)
        assert both_labels(labels, fold.train)
        assert len(fold.inner) == inner
        for split in fold.inner:
            assert np.union1d(split.train, split.test).tolist() == fold.train.tolist()
            assert len(split.test)
            assert apart(groups, split.train, split.test, fold.test)
            assert both_labels(labels, split.train)


def test_the_inner_hold_out_is_a_fifth_and_inner_folds_hold_out_each_training_row_once():
    labels, groups = ALTERNATING[:500], np.arange(500) // 4
    for fold in repeated_folds(labels, groups):
        (split,) = fold.inner
        assert 76 <= len(split.test) <= 84
    for fold in repeated_folds(labels, groups, inner_folds=3):
        assert np.sort(np.concatenate([split.test for split in fold.inner])).tolist() == fold.train.tolist()


def test_a_group_larger_than_a_fifth_is_not_the_inner_hold_out():
    groups = np.concatenate([np.zeros(300, int), np.arange(1, 301)])
    found = repeated_folds(ALTERNATING[:600], groups, folds=3)
    assert sum(0 in groups[fold.train] for fold in found) == 2
    assert all(0 not in groups[split.test] for fold in found for split in fold.inner)


def test_repeats_and_seeds_fold_otherwise_and_one_seed_the_same():
    labels, groups = ALTERNATING[:200], np.arange(200) // 2

    def tests(seed, repeats=1):
        return [fold.test.tolist() for fold in repeated_folds(labels, groups, repeats=repeats, seed=seed)]

    assert tests(0, 2)[:5] == tests(0)
    assert tests(0, 2)[5:] != tests(0) != tests(1)


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([], [], "toy: 0 groups of rows cannot fill 5 folds"),
        ([0, 1, 0], [0, 1, 2], "toy: 3 groups of rows cannot fill 5 folds"),
        ([0, 1] * 10, [0, 1, 2, 3] * 5, "toy: 4 groups of rows cannot fill 5 folds"),
        ([0] * 20, range(20), "toy: the rows outside one of 5 folds have no label 1"),
        ([1] + [0] * 19, range(20), "toy: the rows outside one of 5 folds have no label 1"),
        ([0] * 9 + [1] * 9, [*range(9)] + [9] * 9, "toy: the rows outside one of 5 folds have no label 1"),
        (
            [0, 0] + [1] * 20,
            range(22),
            "toy, training rows of one fold: the rows outside one of 5 folds have no label 0",
        ),
    ],
)
def test_what_cannot_be_folded_is_said_in_one_line(labels, groups, message):
    with pytest.raises(InputError) as caught:
        repeated_folds(np.array(labels, np.int8), np.array(groups, np.int64), name="toy")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inner_folds_need_groups_of_their_own():
    with pytest.raises(InputError, match="toy, training rows of one fold: 8 groups of rows cannot fill 9 folds"):
        repeated_folds(ALTERNATING[:40], np.arange(40) // 4, inner_folds=9, name="toy")


@settings(deadline=None)
@given(grouped_sets(), st.integers(10, 120), st.integers(0, 3))
def test_one_row_a_group_is_balanced_and_as_many_as_can_be(rows, most, seed):
    labels, groups = rows
    kinds = [set(labels[groups == group]) for group in np.unique(groups)]
    with_label = min(sum(label in kind for kind in kinds) for label in (0, 1))
    can = 2 * min(most // 2, with_label, len(kinds) // 2)
    if can < FEWEST_INDEPENDENT:
        with pytest.raises(InputError, match=f"toy: {can} rows of both labels in groups of their own, and 10 are"):
            one_per_group(labels, groups, most, seed, "toy")
        return
    chosen = one_per_group(labels, groups, most, seed)
    assert chosen.dtype == np.int64
    assert len(chosen) == can
    assert len(np.unique(groups[chosen])) == can
    assert labels[chosen].sum() == can // 2
    assert chosen.tolist() == one_per_group(labels, groups, most, seed).tolist()


def test_independent_rows_are_drawn_evenly_over_groups_and_come_in_random_order():
    groups = np.concatenate([np.arange(100), np.repeat(np.arange(50), 9)])
    labels = groups % 2
    drawn = [one_per_group(labels, groups, 20, seed) for seed in range(400)]
    large = np.mean([groups[rows] < 50 for rows in drawn])
    assert 0.47 < large < 0.53
    of_one_group = np.concatenate([rows[groups[rows] == 0] for rows in drawn])
    assert len(np.unique(of_one_group)) > 8  # of its 10 rows
    first_half = np.mean([labels[rows[:10]].mean() for rows in drawn])
    assert 0.47 < first_half < 0.53
    assert any((np.diff(rows) < 0).any() for rows in drawn)


@pytest.mark.real
@pytest.mark.parametrize("name", BUILTIN)
def test_the_authors_sets_fold_evenly_and_hold_enough_independent_rows(shared, name):
    statements = read_statements(name, shared / "data")
    labels, groups = statements.labels, groups_of(statements)
    for fold in repeated_folds(labels, groups, name=name):
        (inner,) = fold.inner
        assert apart(groups, inner.train, inner.test, fold.test)
        assert len(fold.test) == pytest.approx(len(labels) / 5, abs=2)
        assert len(inner.test) == pytest.approx(len(fold.train) / 5, abs=2)
        for rows in (fold.test, inner.test):
            assert labels[rows].mean() == pytest.approx(labels.mean(), abs=0.01)
    rows = one_per_group(labels, groups, 400, 0, name)
    assert len(rows) >= 300
    assert len(np.unique(groups[rows])) == len(rows) == 2 * labels[rows].sum()
