"""Cluster bootstrap: draws of whole groups, and intervals of what was estimated under them.

Rows of a group tell of each other, so groups are drawn whole (Efron 1979; Davison and Hinkley 1997, ch. 3.8).
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
from scipy.stats import norm, t

LEVEL = 0.95
# Half the width of such an interval in standard errors, rounded as it was in all tables so far.
Z95 = 1.96
# Of accuracies, AUROCs and rates.
SHARE = (0.0, 1.0)
# Estimates that differ by no more than float32's rounding do not vary.
ROUNDING = 1e-6


def group_draws(groups: Int[np.ndarray, " N"], draws: int, seed: int) -> Float[np.ndarray, "B G"]:
    """How often each group is in each of B bootstrap samples of G groups, float32; groups in ascending order."""
    count = len(np.unique(groups))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws).astype(np.float32)


def row_weights(groups: Int[np.ndarray, " N"], draws: int, seed: int) -> Float[Array, "B N"]:
    """How often each row is in each bootstrap sample, that is how often `group_draws` has its group."""
    _, members = np.unique(groups, return_inverse=True)
    return jnp.asarray(group_draws(groups, draws, seed)[:, members])


class Variance(NamedTuple):
    """Of an estimate, from a source that the groups do not show, and how many degrees of freedom it is known with."""

    size: float
    freedom: int


NOTHING = Variance(0.0, 1)


def effective_groups(sizes: ArrayLike) -> float:
    """How many groups of one size would say as much: (Σ n)² / Σ n² (Kish 1965), at most as many as there are.

    Args:
        sizes: rows, or their weight, of each group.
    """
    n = np.asarray(sizes, np.float64)
    return float(n.sum() ** 2 / np.square(n).sum()) if n.any() else 0.0


def stretch(groups: float | int, freedom: float | None = None) -> float:
    """How much wider than normal percentiles of a bootstrap an interval of so many effective groups has to be.

    Args:
        groups: two or more.
        freedom: of Student's t; one less than groups unless told.
    """
    quantile = t.ppf((1 + LEVEL) / 2, groups - 1 if freedom is None else freedom)
    return float(quantile / norm.ppf((1 + LEVEL) / 2) * np.sqrt(groups / (groups - 1)))


def interval(
    estimates: ArrayLike,
    value: float,
    groups: float | int,
    limits: tuple[float, float] = SHARE,
    added: Variance = NOTHING,
) -> tuple[float, float] | None:
    """95 % interval of a metric: bootstrap percentiles, stretched for few groups.

    Where all groups are right (or all wrong) no draw differs, which does not mean that the value is certain: the other
    end is then the exact binomial bound for G of G groups, 0.025^(1/G) (Clopper and Pearson 1934).

    Args:
        estimates: under bootstrap weights, [B]; those that are not finite are left out.
        value: the estimate itself.
        groups: the effective number.
        limits: of what the metric can be.
        added: what the estimate varies by beside the groups.

    Returns:
        None where fewer than two groups, or no finite estimate, say nothing.
    """
    draws = _finite(estimates)
    if groups < 2 or not len(draws):
        return None
    if limits == SHARE and _do_not_vary(draws) and min(value, 1 - value) < ROUNDING:
        return (0.0, 1 - _all_alike(groups)) if value < ROUNDING else (_all_alike(groups), 1.0)
    low, high = _stretched(draws, value, groups, added)
    return max(low, limits[0]), min(high, limits[1])


def difference_interval(
    estimates: ArrayLike, value: float, groups: float | int, added: Variance = NOTHING
) -> tuple[float, float] | None:
    """95 % interval of a difference of two accuracies, AUROCs or rates under the same weights, as `interval` has it.

    Where no draw differs, as of two that are alike in every group, the binomial bound stands in.

    Args:
        estimates: differences under bootstrap weights, [B]; those that are not finite are left out.
        value, groups, added: as of `interval`.

    Returns:
        None where fewer than two groups, or no finite estimate, say nothing.
    """
    draws = _finite(estimates)
    if groups < 2 or not len(draws):
        return None
    room = 1 - _all_alike(groups) if _do_not_vary(draws) else 0.0
    low, high = _stretched(draws, value, groups, added)
    return max(low - room, -1.0), min(high + room, 1.0)


def _finite(estimates: ArrayLike) -> np.ndarray:
    found = np.asarray(estimates, np.float64)
    return found[np.isfinite(found)]


def _percentiles(draws: np.ndarray) -> np.ndarray:
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def _do_not_vary(draws: np.ndarray) -> bool:
    return bool(np.ptp(_percentiles(draws)) <= ROUNDING)


def _stretched(draws: np.ndarray, value: float, groups: float | int, added: Variance) -> tuple[float, float]:
    """Percentiles for the sum of two variances, the groups' and the added one; t as Welch and Satterthwaite have it."""
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
    """The least probability under which all groups are alike in (1 − LEVEL) / 2 of cases."""
    return ((1 - LEVEL) / 2) ** (1 / groups)
