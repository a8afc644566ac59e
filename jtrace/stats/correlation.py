"""What goes together: correlations of two curves, float arrays [T] and [T], with intervals where those can be given."""

from dataclasses import dataclass
from math import nan
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

# Fisher's z has the variance 1 / (n − 3), n being the number of effective pairs.
FEWEST_PAIRS = 4
FEWEST_FOR_AN_INTERVAL = 6
# A course in time is one that noise has with no more than this chance.
LEVEL_OF_A_COURSE = 0.05
MOST_PERSISTENT = 0.99
# Differences that differ by less than this share of the curve's range are those of a straight line.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Correlation:
    """A correlation r over `n` pairs, with its 95 % interval; NaN where the pairs allow none.

    Values of curves are no independent pairs, so the interval is given only

    - where neither side has a course over the pairs' order (a quadratic trend, p ≤ `LEVEL_OF_A_COURSE`): two curves
      that both rise, or both jump at their start, always correlate;
    - over the effective number of pairs, n (1 − ab) / (1 + ab) with a, b the two autocorrelations at lag 1, their bias
      taken off, at most n (Bartlett 1935; Kendall 1954), of which `FEWEST_PAIRS` are needed;
    - as wide as it has to be to hold with and without the pair that pulls hardest.
    """

    r: float
    ci_low: float
    ci_high: float
    n: int


def pearson(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Pearson's r, with an interval of Fisher's z; None for fewer than `FEWEST_PAIRS`, or where a side never varies."""
    return _correlation(x, y, 0.0)


def spearman(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Pearson's r of the ranks, ties sharing theirs; z has the variance (1 + r²/2) / (n − 3) (Bonett and Wright 2000).

    None where `pearson` is.
    """
    return _correlation(rankdata(x), rankdata(y), 0.5)


def of_changes(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """Pearson's r of the differences between neighbours: two curves that rise always correlate, their steps need not.

    `n` counts the differences. None where these are fewer than `FEWEST_PAIRS`, or a curve is a straight line.
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
    """Brought to one size: squares of tiny deviations would vanish."""
    deviations = x - x.mean()
    return deviations / np.abs(deviations).max()


def _interval(x: np.ndarray, y: np.ndarray, of_ranks: float) -> tuple[float, float]:
    """Args: of_ranks: what r² adds to the variance of z."""
    shared = _autocorrelation(x) * _autocorrelation(y)
    effective = len(x) * min((1 - shared) / (1 + shared), 1.0)
    # The pair that pulls hardest.
    less = [np.delete(side, np.argmax(np.abs(_deviations(x) * _deviations(y)))) for side in (x, y)]
    if (
        len(x) < FEWEST_FOR_AN_INTERVAL
        or effective < FEWEST_PAIRS
        or _constant(*less)
        or min(_chance_of_course(x), _chance_of_course(y)) <= LEVEL_OF_A_COURSE
    ):
        return nan, nan
    r = np.array([_correlated(x, y), _correlated(*less)])
    half = NormalDist().inv_cdf(0.975) * np.sqrt((1 + of_ranks * r**2) / (effective - 3))
    with np.errstate(divide="ignore"):  # a perfect correlation has an interval without width
        z = np.arctanh(r)
    return float(np.tanh(np.min(z - half))), float(np.tanh(np.max(z + half)))


def _autocorrelation(x: np.ndarray) -> float:
    """At lag 1; its mean is (1 + 3ρ) / n below ρ (Kendall 1954)."""
    u = _deviations(x)
    found = u[1:] @ u[:-1] / (u @ u)
    return float(np.clip((len(x) * found + 1) / (len(x) - 3), -MOST_PERSISTENT, MOST_PERSISTENT))


def _chance_of_course(x: np.ndarray) -> float:
    """How often noise would follow the best parabola over its order as closely."""
    place = np.linspace(-1, 1, len(x))
    u = _deviations(x)
    trend, _ = np.linalg.qr(np.stack([np.ones_like(place), place, place**2], axis=1))
    left = u - trend @ (trend.T @ u)
    # The F-test of two coefficients in closed form.
    return float(((left @ left) / (u @ u)) ** ((len(x) - 3) / 2))
