"""A test of fitting, then compression: the turn of a curve over checkpoints from rising to falling.

Axes: T checkpoints in order, B curves.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression

from jtrace.stats.autoregression import noise, persistence
from jtrace.stats.change_points import FEWEST_POINTS, ROUNDING

# Standard deviation / median of |value|, for normally distributed values.
NORMAL_MAD = 1.4826
# A median-unbiased persistence serves: the flat null leaves room for its error.
MISSED = 0.5


@dataclass(frozen=True)
class Turn:
    """The peak of a curve that rises and then falls.

    Attributes:
        index: the checkpoint of the peak; `low` and `high` are the ends of its 95 % interval, also indices.
        rise, fall: the fitted peak less the first and less the last fitted value, >= 0.
        p: probability that a curve that only rises, or only falls, looks as much like a turn.
    """

    index: int
    low: int
    high: int
    rise: float
    fall: float
    p: float


def turn(
    value: Float[np.ndarray, " T"], se: Float[np.ndarray, " T"] | None = None, seed: int = 0, draws: int = 199
) -> Turn | None:
    """Fits the best curve that rises to a peak and then falls, and tests it against curves that never turn.

    Both kinds are fitted by least squares (Stout 2008, Comput. Stat. Data Anal. 53: a rising fit of every prefix and a
    falling one of every suffix), with weights 1/se² where the errors are known. The size of the noise is `se`, or more
    where second differences scatter more than that; where errors are not known, it is the scatter of second
    differences. Checkpoints that are measured on the same statements share errors, which move the whole curve and turn
    nothing: `se` is then too large, and the test is cautious.

    There are two nulls, "rises throughout" and "falls throughout". The statistic is the squared error of the monotone
    fit beyond that of the turning fit. A flat curve is the hardest case of both (Robertson, Wright and Dykstra 1988),
    so noise around it gives the two null distributions, with its scatter estimated like the curve's. p is the larger of
    both, (1 + #) / (1 + B) each. The noise is as persistent as the curve's own (`persistence`), a random walk at most,
    so a curve of few checkpoints has a small p only where its turn stands out clearly. The peak's interval is a
    parametric bootstrap around the fit.

    Args:
        value: the curve.
        se: its standard errors, > 0.
        draws: B, number of null curves.

    Returns:
        None for fewer than `FEWEST_POINTS` checkpoints, or a curve without scatter around a line.
    """
    count = len(value)
    if count < FEWEST_POINTS:
        return None
    known, unit = se is not None, np.ones(count) if se is None else se
    level = value.mean()
    curve = value - level
    scale = float(_noise(curve[None], unit, known)[0])
    if scale * unit.max() <= ROUNDING * np.abs(value).max():
        return None
    random = np.random.default_rng(seed)
    weight = 1 / unit**2
    phi = persistence(curve / unit, MISSED)
    null, scatter = (unit * noise(phi, (draws, count), random) for _ in range(2))
    errors = _errors(np.concatenate([curve[None], null]), weight)
    beyond = errors.monotone - errors.unimodal[:, None]
    expected = beyond[1:] / _noise(null, unit, known)[:, None] ** 2
    p = (1 + np.sum(expected >= beyond[0] / scale**2 - ROUNDING, axis=0)) / (draws + 1)
    index = int(errors.peak[0])
    fitted = _up_to_and_down_from(index, curve, weight)
    peaks = _errors(fitted + scale * scatter, weight).peak
    low, high = (int(end) for end in np.quantile(peaks, [0.025, 0.975], method="nearest"))
    rise, fall = (max(float(fitted[index] - fitted[end]), 0.0) for end in (0, -1))
    return Turn(index, min(low, index), max(high, index), rise, fall, float(p.max()))


def _noise(value: Float[np.ndarray, "B T"], unit: Float[np.ndarray, " T"], known: bool) -> Float[np.ndarray, " B"]:
    """Estimates the size of the noise in units of `unit`, by second differences; at least 1 where errors are known."""
    spread = np.sqrt(unit[:-2] ** 2 + 4 * unit[1:-1] ** 2 + unit[2:] ** 2)
    differences = np.abs(value[:, :-2] - 2 * value[:, 1:-1] + value[:, 2:]) / spread
    robust = NORMAL_MAD * np.median(differences, axis=1)
    # Where more than half the curve is exactly straight, the median is 0, but the rest still scatters.
    size = np.where(robust > 0, robust, np.sqrt(np.mean(differences**2, axis=1)))
    return np.maximum(size, 1) if known else size


class _Errors(NamedTuple):
    """Weighted squared errors of the rising, the falling and the unimodal fit, and the peak of the last."""

    monotone: Float[np.ndarray, "B 2"]
    unimodal: Float[np.ndarray, " B"]
    peak: Int[np.ndarray, " B"]


def _errors(value: Float[np.ndarray, "B T"], weight: Float[np.ndarray, " T"]) -> _Errors:
    # A falling fit of a suffix is a rising fit of a prefix of the reversed curve.
    both = np.concatenate([value, value[:, ::-1]])
    rising, falling = np.split(_prefix_errors(both, np.repeat([weight, weight[::-1]], len(value), axis=0)), 2)
    falling = falling[:, ::-1]
    # Rising over the first i checkpoints, falling over the others, for i = 1 .. T.
    split = rising + np.concatenate([falling[:, 1:], np.zeros_like(falling[:, :1])], axis=1)
    best = np.argmin(split, axis=1)
    # On the higher side of the best split, the value next to it is not pooled with others: it is the peak.
    following = np.minimum(best + 1, value.shape[1] - 1)
    rows = np.arange(len(value))
    peak = np.where(value[rows, following] > value[rows, best], following, best)
    return _Errors(np.stack([rising[:, -1], falling[:, 0]], axis=1), split[rows, best], peak)


def _prefix_errors(value: Float[np.ndarray, "B T"], weight: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Computes the weighted squared error of the best rising fit to the first 1 .. T values.

    It pools adjacent violators for all curves at once; each has a stack of blocks whose means rise.
    """
    curves, count = value.shape
    rows = np.arange(curves)
    mean, mass, below = (np.zeros((curves, count + 1)) for _ in range(3))
    # The bottom of the stack, which no block violates.
    mean[:, 0] = -np.inf
    depth = np.zeros(curves, np.int64)
    errors = np.empty_like(value)
    for place in range(count):
        top, heavy, error = value[:, place].copy(), weight[:, place].copy(), np.zeros(curves)
        pooling = np.flatnonzero(mean[rows, depth] >= top)
        while len(pooling):
            at = depth[pooling]
            other, its = mean[pooling, at], mass[pooling, at]
            together = heavy[pooling] + its
            # `below` is the error of all blocks up to one, so its growth is the error of that block.
            of_block = below[pooling, at] - below[pooling, at - 1]
            error[pooling] += of_block + heavy[pooling] * its / together * (other - top[pooling]) ** 2
            top[pooling] = (heavy[pooling] * top[pooling] + its * other) / together
            heavy[pooling] = together
            depth[pooling] = at - 1
            pooling = pooling[mean[pooling, at - 1] >= top[pooling]]
        depth += 1
        errors[:, place] = below[rows, depth - 1] + error
        mean[rows, depth], mass[rows, depth], below[rows, depth] = top, heavy, errors[:, place]
    return errors


def _up_to_and_down_from(
    peak: int, value: Float[np.ndarray, " T"], weight: Float[np.ndarray, " T"]
) -> Float[np.ndarray, " T"]:
    """Fits by least squares a curve that rises to a peak, which is not pooled with others, and then falls."""
    up = isotonic_regression(value[: peak + 1], weights=weight[: peak + 1]).x
    down = isotonic_regression(value[peak:], weights=weight[peak:], increasing=False).x
    return np.concatenate([up, down[1:]])
