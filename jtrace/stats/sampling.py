"""Few of many, without chance."""

import numpy as np


def evenly_spread(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` out of `count`, first and last included, evenly spread: int64."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
