"""Cluster bootstrap: draws of whole groups, and intervals of estimates under those draws.

Rows of a group are not independent, so groups are drawn whole (Efron 1979; Davison and Hinkley 1997, ch. 3.8).
Differences of two metrics are paired by computing both under the same draws.

Percentiles of few groups are too narrow: their distance from the estimate is stretched by t/1.96 · √(G / (G − 1)), with
Student's t of G − 1 degrees of freedom and G the effective number of groups. At G = 80 that is 1 %.
Axes: N rows, B draws, G groups.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike
from scipy.stats import t

from jtrace.stats.quantiles import LEVEL, normal_point

# Limits of accuracies, AUROCs and rates.
SHARE = (0.0, 1.0)
# Estimates that differ by no more than float32's rounding do not vary.
ROUNDING = 1e-6


def group_draws(groups: Int[np.ndarray, " N"], draws: int, seed: int) -> Float[np.ndarray, "B G"]:
    """Draws B bootstrap samples of G groups: how many times each has each group, float32, groups ascending."""
    count = len(np.unique(groups))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws).astype(np.float32)


def row_weights(groups: Int[np.ndarray, " N"], draws: int, seed: int) -> Float[Array, "B N"]:
    """Draws bootstrap samples of groups: the number of times that each sample of `group_draws` has each row's group."""
    _, members = np.unique(groups, return_inverse=True)
    return jnp.asarray(group_draws(groups, draws, seed)[:, members])


class Variance(NamedTuple):
    """Variance of an estimate from a source other than the groups, and the degrees of freedom it is known with."""

    size: float
    freedom: int


NO_VARIANCE = Variance(0.0, 1)


def effective_groups(sizes: ArrayLike) -> float:
    """Returns the number of equal groups that are worth as much: (Σ n)² / Σ n² (Kish 1965), at most their number.

    Args:
        sizes: number of rows of each group, or their weight.
    """
    n = np.asarray(sizes, np.float64)
    return float(n.sum() ** 2 / np.square(n).sum()) if n.any() else 0.0


def stretch(groups: float | int, freedom: float | None = None) -> float:
    """Returns the factor by which an interval of few effective groups is wider than percentiles of a bootstrap.

    Args:
        groups: two or more.
        freedom: degrees of freedom of Student's t; by default one less than groups.
    """
    quantile = t.ppf((1 + LEVEL) / 2, groups - 1 if freedom is None else freedom)
    return float(quantile / normal_point() * np.sqrt(groups / (groups - 1)))


def interval(
    estimates: ArrayLike,
    value: float,
    groups: float | int,
    limits: tuple[float, float] = SHARE,
    added: Variance = NO_VARIANCE,
) -> tuple[float, float] | None:
    """Computes the 95 % interval of a metric: bootstrap percentiles, stretched for few groups.

    Where all groups are right (or all wrong), no draw differs, yet the value is not certain: the other end is then the
    exact binomial bound for G of G groups, 0.025^(1/G) (Clopper and Pearson 1934).

    Args:
        estimates: estimates under bootstrap weights, [B]; those that are not finite are left out.
        value: the estimate on all rows.
        groups: effective number of groups.
        limits: the least and the largest value of the metric.
        added: further variance of the estimate, from a source other than the groups.

    Returns:
        The two ends; None for fewer than two groups or no finite estimate.
    """
    draws = _finite(estimates)
    if groups < 2 or not len(draws):
        return None
    if limits == SHARE and _do_not_vary(draws) and min(value, 1 - value) < ROUNDING:
        return (0.0, 1 - _all_alike(groups)) if value < ROUNDING else (_all_alike(groups), 1.0)
    low, high = _stretched(draws, value, groups, added)
    return max(low, limits[0]), min(high, limits[1])


def difference_interval(
    estimates: ArrayLike, value: float, groups: float | int, added: Variance = NO_VARIANCE
) -> tuple[float, float] | None:
    """Computes the 95 % interval of a difference of two accuracies, AUROCs or rates under the same weights.

    It is that of `interval`, but where no draw differs, as with two that are equal in every group, the ends are a
    binomial bound away from the percentiles.

    Args:
        estimates: differences under bootstrap weights, [B]; those that are not finite are left out.
        value, groups, added: as in `interval`.

    Returns:
        The two ends; None for fewer than two groups or no finite estimate.
    """
    draws = _finite(estimates)
    if groups < 2 or not len(draws):
        return None
    room = 1 - _all_alike(groups) if _do_not_vary(draws) else 0.0
    low, high = _stretched(draws, value, groups, added)
    return max(low - room, -1.0), min(high + room, 1.0)


def _finite(estimates: ArrayLike) -> np.ndarray:
    values = np.asarray(estimates, np.float64)
    return values[np.isfinite(values)]


def _percentiles(draws: np.ndarray) -> np.ndarray:
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def _do_not_vary(draws: np.ndarray) -> bool:
    return bool(np.ptp(_percentiles(draws)) <= ROUNDING)


def _stretched(draws: np.ndarray, value: float, groups: float | int, added: Variance) -> tuple[float, float]:
    """Widens percentiles to the sum of the groups' and the added variance; t by Welch and Satterthwaite."""
    of_groups = draws.var() * groups / (groups - 1)
    both = of_groups + added.size
    if both <= ROUNDING**2:
        return float(draws.min()), float(draws.max())
    freedom = both**2 / (of_groups**2 / (groups - 1) + added.size**2 / added.freedom)
    if _do_not_vary(draws):
        half = t.ppf((1 + LEVEL) / 2, freedom) * added.size**0.5
        return value - half, value + half
    away = (_percentiles(draws) - value) * stretch(groups, freedom) * (both / of_groups) ** 0.5
    return value + min(away[0], 0.0), value + max(away[1], 0.0)


def _all_alike(groups: float | int) -> float:
    """Returns the probability of a right group at which all groups are right in (1 − LEVEL) / 2 of cases."""
    return ((1 - LEVEL) / 2) ** (1 / groups)
