"""Correlations of two curves, float arrays [T] and [T], with intervals where those can be given."""

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import rankdata

from jtrace.stats.quantiles import NORMAL_95

# Fisher's z has the variance 1 / (n − 3), with n the number of effective pairs.
FEWEST_PAIRS = 4
FEWEST_FOR_AN_INTERVAL = 6
# A curve has a trend if noise would show as clear a one with at most this probability.
LEVEL_OF_A_COURSE = 0.05
MOST_PERSISTENT = 0.99
# If differences vary by less than this share of the curve's range, the curve is a straight line.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Correlation:
    """A correlation r over `n` pairs, with its 95 % interval; NaN where the pairs allow none.

    Values of a curve are not independent, so the interval

    - is given only where neither curve has a quadratic trend over the pairs' order (p ≤ `LEVEL_OF_A_COURSE`): two
      curves that both rise, or both jump at their start, always correlate;
    - is for the effective number of pairs, n (1 − ab) / (1 + ab), at most n, where a and b are the autocorrelations at
      lag 1, corrected for bias (Bartlett 1935; Kendall 1954); `FEWEST_PAIRS` of them are needed;
    - is wide enough to hold with and without the pair of most influence.
    """

    r: float
    ci_low: float
    ci_high: float
    n: int


def pearson(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Computes Pearson's r with an interval by Fisher's z; None below `FEWEST_PAIRS`, or if a side never varies."""
    return _correlation(x, y, 0.0)


def spearman(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Computes Pearson's r of ranks, ties averaged; z has the variance (1 + r²/2) / (n − 3) (Bonett and Wright 2000).

    None where `pearson` is None.
    """
    return _correlation(rankdata(x), rankdata(y), 0.5)


def of_changes(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Computes Pearson's r of differences between neighbours: rising curves always correlate, their steps need not.

    `n` counts the differences. None for fewer than `FEWEST_PAIRS`, or where a curve is a straight line.
    """
    dx, dy = np.diff(x), np.diff(y)
    if any(np.ptp(d) <= ROUNDING * np.ptp(values) for d, values in ((dx, x), (dy, y)) if len(d)):
        return None
    return pearson(dx, dy)


def _correlation(x: np.ndarray, y: np.ndarray, of_ranks: float) -> Correlation | None:
    if len(x) < FEWEST_PAIRS or _constant(x, y):
        return None
    return Correlation(_correlated(x, y), *_interval(x, y, of_ranks), len(x))


def _constant(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(np.ptp(x) == 0 or np.ptp(y) == 0)


def _correlated(x: np.ndarray, y: np.ndarray) -> float:
    u, v = _deviations(x), _deviations(y)
    return float(np.clip(u @ v / np.sqrt((u @ u) * (v @ v)), -1, 1))


def _deviations(x: np.ndarray) -> np.ndarray:
    """Returns deviations from the mean, scaled to at most 1: squares of tiny ones would vanish."""
    deviations = x - x.mean()
    return deviations / np.abs(deviations).max()


def _interval(x: np.ndarray, y: np.ndarray, of_ranks: float) -> tuple[float, float]:
    """Computes the interval by Fisher's z; `of_ranks` is the factor of r² in the variance of z."""
    shared = _autocorrelation(x) * _autocorrelation(y)
    effective = len(x) * min((1 - shared) / (1 + shared), 1.0)
    # Without the pair of most influence.
    less = [np.delete(side, np.argmax(np.abs(_deviations(x) * _deviations(y)))) for side in (x, y)]
    if (
        len(x) < FEWEST_FOR_AN_INTERVAL
        or effective < FEWEST_PAIRS
        or _constant(*less)
        or min(_chance_of_course(x), _chance_of_course(y)) <= LEVEL_OF_A_COURSE
    ):
        return nan, nan
    r = np.array([_correlated(x, y), _correlated(*less)])
    half = NORMAL_95 * np.sqrt((1 + of_ranks * r**2) / (effective - 3))
    with np.errstate(divide="ignore"):  # a perfect correlation has an interval without width
        z = np.arctanh(r)
    return float(np.tanh(np.min(z - half))), float(np.tanh(np.max(z + half)))


def _autocorrelation(x: np.ndarray) -> float:
    """Estimates the autocorrelation ρ at lag 1, corrected for its bias −(1 + 3ρ) / n (Kendall 1954)."""
    u = _deviations(x)
    measured = u[1:] @ u[:-1] / (u @ u)
    return float(np.clip((len(x) * measured + 1) / (len(x) - 3), -MOST_PERSISTENT, MOST_PERSISTENT))


def _chance_of_course(x: np.ndarray) -> float:
    """Returns the probability that noise follows its best parabola as closely."""
    place = np.linspace(-1, 1, len(x))
    u = _deviations(x)
    trend, _ = np.linalg.qr(np.stack([np.ones_like(place), place, place**2], axis=1))
    left = u - trend @ (trend.T @ u)
    # The F-test of two coefficients in closed form.
    return float(((left @ left) / (u @ u)) ** ((len(x) - 3) / 2))
