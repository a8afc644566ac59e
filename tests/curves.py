"""Curves over checkpoints without a course of their own."""

import numpy as np


def wandering(phi, number, count, seed=0):
    """Stationary noise of autocorrelation phi, innovations of size 1, `number` times; a random walk where phi is 1."""
    steps = np.random.default_rng(seed).normal(size=(number, count))
    if phi < 1:
        steps[:, 0] /= np.sqrt(1 - phi**2)
    curves = steps.copy()
    for place in range(1, count):
        curves[:, place] += phi * curves[:, place - 1]
    return curves
