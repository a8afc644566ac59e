"""Bootstrap intervals of metrics. Items of one group are drawn together: they tell of each other."""

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from jtrace import held_out
from jtrace.evaluation.task import Item, Outcome

DRAWS = 1000
LEVEL = 0.95


def estimate(outcome: Outcome, rows: np.ndarray | None = None) -> float:
    """The metric, over all items or some; NaN where none of them counts.

    Args:
        rows: bool [N], which items.
    """
    weights = outcome.weights if rows is None else outcome.weights * rows
    return float(_metric(weights @ outcome.values, weights.sum(), outcome.exponential))


def interval(
    outcome: Outcome, items: Sequence[Item], seed: int, rows: np.ndarray | None = None, base: Outcome | None = None
) -> tuple[float, float] | None:
    """95 % percentile interval of a metric by a cluster bootstrap over groups (Efron 1979; Davison and Hinkley 1997).

    Of a rate that is 0 or 1 in every group, and of two rates that are alike in every group, no draw differs; the exact
    binomial bound for so many groups stands in (Clopper and Pearson 1934), see `held_out.interval`.

    Args:
        items: whose groups are drawn; one without a group is its own.
        seed: of the draws; the same seed and groups draw the same groups for every metric.
        rows: bool [N], which items; None for all.
        base: the interval is that of the difference from this outcome, on the same draws.

    Returns:
        None where fewer than two groups count: nothing can be said then.
    """
    counted = outcome.weights > 0 if rows is None else (outcome.weights > 0) & rows
    if base is not None:
        counted |= base.weights > 0 if rows is None else (base.weights > 0) & rows
    names = [item.group or f"\0{at}" for at, item in enumerate(items)]
    groups, members = np.unique(np.array(names)[counted], return_inverse=True)
    if len(groups) < 2:
        return None
    drawn = _drawn(seed, len(groups))

    def metric(of: Outcome) -> np.ndarray:
        weights = of.weights[counted]
        total, weight = (np.bincount(members, c, len(groups)) for c in (weights * of.values[counted], weights))
        return _metric(drawn @ total, drawn @ weight, of.exponential)

    found = metric(outcome) - (0.0 if base is None else metric(base))
    if _is_rate(outcome):
        if base is not None:
            return held_out.difference_interval(found, len(groups))
        return held_out.interval(found, estimate(outcome, rows), len(groups))
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def validation_part(items: Sequence[Item], seed: int, share: float = 1 / 3) -> np.ndarray:
    """Which items choose layer and strength, bool [N]: about a share of them, whole groups, drawn by the seed."""
    names = [item.group or f"\0{at}" for at, item in enumerate(items)]
    sizes = Counter(names)
    order = np.random.default_rng(seed).permutation(np.array(list(sizes), object))
    chosen: set[str] = set()
    count = 0
    for name in order[:-1]:  # one group at least is reported
        if count >= share * len(names):
            break
        chosen.add(name)
        count += sizes[name]
    return np.array([name in chosen for name in names])


@functools.lru_cache(maxsize=4)
def _drawn(seed: int, groups: int) -> np.ndarray:
    """How often each group is in each draw, float64 [DRAWS, groups]."""
    return held_out.group_draws(np.arange(groups), DRAWS, seed).astype(np.float64)


def _is_rate(outcome: Outcome) -> bool:
    return not outcome.exponential and bool(((outcome.values >= 0) & (outcome.values <= 1)).all())


def _metric(total: np.ndarray, weight: np.ndarray, exponential: bool) -> np.ndarray:
    mean = np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=np.asarray(weight) > 0)
    return np.exp(mean) if exponential else mean
