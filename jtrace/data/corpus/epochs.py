"""The order in which training takes its rows: a new permutation for every epoch, one epoch running into the next."""

from functools import lru_cache

import numpy as np


class Order:
    """Which rows each step takes, and how many tokens it has seen by then.

    Args:
        filled: tokens of each row, padding not counted.
        rows: of a step.
    """

    def __init__(self, filled: np.ndarray, rows: int, seed: int) -> None:
        self._filled, self._rows, self._seed = filled, rows, seed
        # The epoch at hand and the next: a step may reach into both.
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def step(self, step: int) -> np.ndarray:
        """Rows of the step that follows `step` updates."""
        epochs, within = np.divmod(np.arange(step * self._rows, (step + 1) * self._rows), len(self._filled))
        return np.concatenate([self._epoch(int(e))[0][within[epochs == e]] for e in np.unique(epochs)])

    def tokens(self, step: int) -> int:
        """Tokens seen by `step` updates."""
        epochs, rest = divmod(step * self._rows, len(self._filled))
        return epochs * int(self._filled.sum()) + int(self._epoch(epochs)[1][rest])

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's permutation of the rows, and the tokens before each of them."""
        permutation = np.random.default_rng((self._seed, epoch)).permutation(len(self._filled))
        return permutation, np.concatenate([[0], np.cumsum(self._filled[permutation])])
