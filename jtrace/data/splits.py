"""Which rows of a statement set serve which purpose. All functions return row indices, int64, in file order."""

from dataclasses import dataclass

import numpy as np

from jtrace.errors import InputError


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class Split:
    """Rows to fit on and rows to score on: two disjoint index arrays, int64."""

    train: np.ndarray
    test: np.ndarray


def prefix_split(labels: np.ndarray, fraction: float = 0.8, name: str = "statements") -> Split:
    """The published split: the first int(fraction·n) rows train, the rest test.

    Args:
        labels: 0 or 1, int [n].
        fraction: the share of the rows that train.
        name: what the set is called in messages.

    Raises:
        InputError: no row is left to test on, or the training rows lack a label.
    """
    train = leading_rows(labels, fraction, name)
    if len(train) == len(labels):
        raise InputError(f"{name}: a test part is missing, all {len(labels)} rows train; add rows")
    return Split(train, np.arange(len(train), len(labels)))


def leading_rows(labels: np.ndarray, fraction: float, name: str = "statements") -> np.ndarray:
    """The first int(fraction·n) rows, which a `paper` steering vector is made of: int64 [int(fraction·n)].

    Raises:
        InputError: these rows lack a label.
    """
    count = int(fraction * len(labels))
    missing = [str(label) for label in (0, 1) if label not in labels[:count]]
    if missing:
        has = f"the first {count} of {len(labels)} rows have no label {' or '.join(missing)}"
        raise InputError(f"{name}: {has}, and both labels are needed; add rows or shuffle the file")
    return np.arange(count)


def evenly_spread(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` out of `count`, first and last included, evenly spread: int64."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
