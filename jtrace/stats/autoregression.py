"""Autoregressive noise over checkpoints: an estimate of its persistence in a curve, and draws of it.

Axes: T checkpoints in order, B curves.
"""

from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from jtrace.stats.sampling import evenly_spread

# Candidate autocorrelations; the last is hard to tell from a random walk.
TRIED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DRAWS = 499
FEWEST_IN_A_PIECE = 3
MOST_BREAKS = 24  # places where one line may end and the other begin


def persistence(value: Float[np.ndarray, " T"], missed: float) -> float:
    """Estimates the autocorrelation at lag 1 of a curve's noise, one of `TRIED`, by an autoregressive model of order 1.

    Two lines are fitted to the curve, and the autocorrelation of the residuals is compared with that of generated noise
    from which two lines were taken as well (Andrews 1993, Econometrica 61, who takes the mean). A curve that two lines
    do not follow seems to have more persistent noise, which errs on the safe side.

    Args:
        value: a curve of at least 2 × `FEWEST_IN_A_PIECE` checkpoints.
        missed: the share of curves whose noise is more persistent than estimated; 0.5 is median-unbiased.
    """
    measured = _autocorrelation(value[None])[0]
    lowest = _lowest(len(value), missed)
    return max((phi for phi, low in zip(TRIED, lowest, strict=True) if measured > low), default=0.0)


def noise(phi: float, shape: tuple[int, int], random: np.random.Generator) -> Float[np.ndarray, "B T"]:
    """Draws stationary autoregressive noise; its second differences scatter like those of white noise of size 1."""
    drawn = random.standard_normal(shape)
    drawn[:, 0] /= np.sqrt(1 - phi**2)
    # Var(x₊ − 2x + x₋) = 2 (1 − φ)(3 − φ) Var(x), which is 6 for white noise; innovations have (1 − φ²) Var(x).
    return lfilter([1], [1, -phi], drawn, axis=1) * np.sqrt(3 * (1 + phi) / (3 - phi))


@cache
def _lowest(count: int, missed: float) -> tuple[float, ...]:
    """Returns, for each of `TRIED`, the measured autocorrelation that a share `missed` of such curves stay below."""
    random = np.random.default_rng(0)
    measured = [_autocorrelation(noise(phi, (DRAWS, count), random)) for phi in TRIED]
    # By chance of sampling, neighbours may be out of order.
    return tuple(np.maximum.accumulate(np.quantile(measured, missed, axis=1)))


def _autocorrelation(value: Float[np.ndarray, "B T"]) -> Float[np.ndarray, " B"]:
    """Measures the autocorrelation at lag 1 of the residuals of the best two lines."""
    count = value.shape[1]
    x, best, left = np.arange(count) / count, np.full(len(value), np.inf), np.zeros_like(value)
    breaks = count - 2 * FEWEST_IN_A_PIECE + 1
    for place in evenly_spread(breaks, MOST_BREAKS):
        later = np.arange(count) >= FEWEST_IN_A_PIECE + place
        lines, _ = np.linalg.qr(np.stack([~later, later, ~later * x, later * x], axis=1))
        residual = value - (value @ lines) @ lines.T
        error = np.sum(residual**2, axis=1)
        better = error < best
        best[better], left[better] = error[better], residual[better]
    return np.sum(left[:, 1:] * left[:, :-1], axis=1) / np.maximum(best, np.finfo(float).tiny)
