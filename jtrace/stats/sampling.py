"""Choices of few out of many, without chance."""

import numpy as np


def evenly_spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` indices out of `count`, evenly spread, the first and the last included: int64."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
