"""Splits of a statement set's rows by purpose. Rows are indices, int64, in file order unless said otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jtrace.errors import InputError

# Share of rows in an inner hold-out.
HOLD_OUT = 1 / 5
# Fewer rows have fewer labellings (C(10, 5) = 252) than the 200 permutations of a null need.
FEWEST_INDEPENDENT = 10


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class Split:
    """Rows to fit on and rows to score on: two disjoint arrays of indices, int64."""

    train: np.ndarray
    test: np.ndarray


def prefix_split(labels: np.ndarray, fraction: float = 0.8, name: str = "statements") -> Split:
    """Makes the published split: the first int(fraction·n) rows train, the rest test.

    Args:
        labels: 0 or 1, int [n].
        fraction: share of the rows that train.
        name: name of the set in messages.

    Raises:
        InputError: no row is left to test on, or the training rows lack a label.
    """
    train = leading_rows(labels, fraction, name)
    if len(train) == len(labels):
        raise InputError(f"{name}: a test part is missing, all {len(labels)} rows train; add rows")
    return Split(train, np.arange(len(train), len(labels)))


def leading_rows(labels: np.ndarray, fraction: float, name: str = "statements") -> np.ndarray:
    """Returns the first int(fraction·n) rows, from which a `paper` steering vector is made: int64 [int(fraction·n)].

    Raises:
        InputError: these rows lack a label.
    """
    count = int(fraction * len(labels))
    missing = [str(label) for label in (0, 1) if label not in labels[:count]]
    if missing:
        has = f"the first {count} of {len(labels)} rows have no label {' or '.join(missing)}"
        raise InputError(f"{name}: {has}, and both labels are needed; add rows or shuffle the file")
    return np.arange(count)


# eq=False, as in Split.
@dataclass(frozen=True, eq=False)
class Fold:
    """One fold of one repeat of a cross-validation.

    Attributes:
        repeat: number of the repeat, from 0.
        train: rows to fit on, int64, in file order.
        test: held-out rows, int64, in file order.
        inner: splits of the training rows, to choose settings on; their indices are rows of the set as well.
    """

    repeat: int
    train: np.ndarray
    test: np.ndarray
    inner: tuple[Split, ...]


def repeated_folds(
    labels: np.ndarray,
    groups: np.ndarray,
    folds: int = 5,
    repeats: int = 1,
    inner_folds: int = 1,
    seed: int = 0,
    name: str = "statements",
) -> tuple[Fold, ...]:
    """Makes folds of repeated, grouped, stratified cross-validation with inner splits (nested: Varma and Simon 2006).

    Args:
        labels: 0 or 1, int [N].
        groups: group of each row, which no split parts, int [N].
        inner_folds: 1 for one hold-out of about `HOLD_OUT` of the training rows; k for all k folds of them.
        name: name of the set in messages.

    Returns:
        `folds` folds of the first repeat, then those of the next. The test rows of a repeat are all rows, once each.

    Raises:
        InputError: there are fewer groups than folds, or training rows of an outer or inner split lack a label.
    """
    every_fold = []
    for repeat in range(repeats):
        fold_of = grouped_folds(labels, groups, folds, (seed, repeat), name)
        for fold in range(folds):
            train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            inner_seed = (seed, repeat, 1 + fold)
            inner = _inner_splits(labels, groups, train, inner_folds, inner_seed, f"{name}, training rows of one fold")
            every_fold.append(Fold(repeat, train, test, inner))
    return tuple(every_fold)


def grouped_folds(
    labels: np.ndarray, groups: np.ndarray, count: int, seed: int | Sequence[int], name: str = "statements"
) -> np.ndarray:
    """Assigns each row to a fold, int64 [N]: groups stay whole, folds are alike in labels and size, and none is empty.

    It is greedy, large groups first: each goes where its labels are scarcest, which adds least to Σ (share of a label)²
    over folds and labels. Where every group is one row, counts of a label differ by at most 1 between folds.

    Args:
        labels: 0 or 1, int [N].
        groups: group of each row, int [N].
        seed: seed of the order of groups of one size.
        name: name of the set in messages.

    Raises:
        InputError: there are fewer groups than folds, or the rows outside some fold lack a label.
    """
    labels = labels.astype(np.int64)
    _, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((members.max(initial=-1) + 1, 2), np.int64)
    np.add.at(counts, (members, labels), 1)
    if len(counts) < count:
        has = f"{len(counts)} groups of rows cannot fill {count} folds"
        raise InputError(f"{name}: {has}; add rows that tell of something else, or take fewer folds")

    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    scale = 1 / np.maximum(counts.sum(axis=0), 1) ** 2
    filled = np.zeros((count, 2), np.int64)
    fold_of_group = np.empty(len(counts), np.int64)
    for group in order:
        # The smallest of equally good folds is taken, so empty ones come first.
        fold = np.lexsort((filled.sum(axis=1), filled @ (counts[group] * scale)))[0]
        filled[fold] += counts[group]
        fold_of_group[group] = fold

    lacking = filled.sum(axis=0) == filled
    if lacking.any():
        label = int(lacking.any(axis=0).argmax())
        has = f"the rows outside one of {count} folds have no label {label}, and both labels are needed"
        raise InputError(f"{name}: {has}; add rows of label {label} that tell of something else")
    return fold_of_group[members]


def one_per_group(labels: np.ndarray, groups: np.ndarray, most: int, seed: int, name: str = "statements") -> np.ndarray:
    """Draws independent rows: one per group, equally many of both labels, int64 [at most `most`], in random order.

    The number is the largest possible: groups of one label fill that label's half first, groups of both labels fill the
    rest. Groups, and the row of each, are drawn with equal probability.

    Args:
        labels: 0 or 1, int [N].
        groups: group of each row, int [N].
        name: name of the set in messages.

    Raises:
        InputError: fewer than `FEWEST_INDEPENDENT` rows.
    """
    labels = labels.astype(np.int64)
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    names, members = np.unique(groups, return_inverse=True)
    row = np.full((len(names), 2), -1)
    kinds, first = np.unique(2 * members[order] + labels[order], return_index=True)
    row.flat[kinds] = order[first]

    shuffled = random.permutation(row)
    has = shuffled >= 0
    alone = [shuffled[has[:, label] & ~has[:, 1 - label], label] for label in (0, 1)]
    both = shuffled[has.all(axis=1)]
    sizes = np.arange(most // 2 + 1)
    needed = sum(np.maximum(sizes - len(rows), 0) for rows in alone)
    half = int(sizes[needed <= len(both)].max())
    if 2 * half < FEWEST_INDEPENDENT:
        has_rows = f"{2 * half} rows of both labels in groups of their own, and {FEWEST_INDEPENDENT} are needed"
        raise InputError(f"{name}: {has_rows}; add rows that tell of something else")
    missing = max(half - len(alone[0]), 0)
    zeros = np.concatenate([alone[0][:half], both[:missing, 0]])
    ones = np.concatenate([alone[1], both[missing:, 1]])[:half]
    return random.permutation(np.concatenate([zeros, ones]))


def _inner_splits(
    labels: np.ndarray, groups: np.ndarray, rows: np.ndarray, count: int, seed: Sequence[int], name: str
) -> tuple[Split, ...]:
    """Returns `count` folds of some rows of a set, or the one fold whose size is nearest to `HOLD_OUT`."""
    parts = count if count > 1 else max(2, min(round(1 / HOLD_OUT), len(np.unique(groups[rows]))))
    fold_of = grouped_folds(labels[rows], groups[rows], parts, seed, name)
    splits = tuple(Split(rows[fold_of != fold], rows[fold_of == fold]) for fold in range(parts))
    if count > 1:
        return splits
    return (min(splits, key=lambda split: abs(len(split.test) - HOLD_OUT * len(rows))),)
