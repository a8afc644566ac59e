"""The order of training rows: a new permutation for every epoch; a step may span two epochs."""

from functools import lru_cache

import numpy as np


class Order:
    """The rows of each step, and the tokens seen before it.

    Args:
        filled: tokens of each row, without padding.
        rows: rows of a step.
    """

    def __init__(self, filled: np.ndarray, rows: int, seed: int) -> None:
        self._filled, self._rows, self._seed = filled, rows, seed
        # Two epochs are kept, since a step may span both.
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def step(self, step: int) -> np.ndarray:
        """Returns the rows of the step after `step` updates."""
        epochs, within = np.divmod(np.arange(step * self._rows, (step + 1) * self._rows), len(self._filled))
        return np.concatenate([self._epoch(int(e))[0][within[epochs == e]] for e in np.unique(epochs)])

    def tokens(self, step: int) -> int:
        """Returns the number of tokens seen in `step` updates."""
        epochs, rest = divmod(step * self._rows, len(self._filled))
        return epochs * int(self._filled.sum()) + int(self._epoch(epochs)[1][rest])

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws an epoch's permutation of the rows, and sums the tokens before each."""
        permutation = np.random.default_rng((self._seed, epoch)).permutation(len(self._filled))
        return permutation, np.concatenate([[0], np.cumsum(self._filled[permutation])])
