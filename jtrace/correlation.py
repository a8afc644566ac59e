"""What goes together: correlations of two curves, float arrays [T] and [T], with their intervals."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

# Fisher's z has the variance 1 / (n − 3).
FEWEST_FOR_AN_INTERVAL = 4
# Differences that differ by less than this share of the curve's range are those of a straight line.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Correlation:
    """A correlation r over `n` pairs, with the 95 % interval of Fisher's z."""

    r: float
    ci_low: float
    ci_high: float
    n: int


def pearson(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """None where there are fewer than `FEWEST_FOR_AN_INTERVAL` pairs, or one side never varies."""
    if len(x) < FEWEST_FOR_AN_INTERVAL or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    r = _correlated(x, y)
    return _with_interval(r, 1 / (len(x) - 3), len(x))


def spearman(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Pearson's r of the ranks, ties sharing theirs; z has the variance (1 + r²/2) / (n − 3) (Bonett and Wright 2000).

    None where `pearson` is.
    """
    if len(x) < FEWEST_FOR_AN_INTERVAL or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    r = _correlated(rankdata(x), rankdata(y))
    return _with_interval(r, (1 + r * r / 2) / (len(x) - 3), len(x))


def of_changes(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Pearson's r of the differences between neighbours: two curves that rise always correlate, their steps need not.

    `n` counts the differences. None where these are fewer than `FEWEST_FOR_AN_INTERVAL`, or a curve is a straight line.
    """
    dx, dy = np.diff(x), np.diff(y)
    if any(np.ptp(d) <= ROUNDING * np.ptp(values) for d, values in ((dx, x), (dy, y)) if len(d)):
        return None
    return pearson(dx, dy)


def _correlated(x: np.ndarray, y: np.ndarray) -> float:
    # Brought to one size first: squares of tiny deviations would vanish.
    u, v = (deviation / np.abs(deviation).max() for deviation in (x - x.mean(), y - y.mean()))
    return float(np.clip(u @ v / np.sqrt((u @ u) * (v @ v)), -1, 1))


def _with_interval(r: float, variance: float, n: int) -> Correlation:
    with np.errstate(divide="ignore"):  # a perfect correlation has an interval without width
        z, half = np.arctanh(r), NormalDist().inv_cdf(0.975) * np.sqrt(variance)
    return Correlation(r, float(np.tanh(z - half)), float(np.tanh(z + half)), n)
