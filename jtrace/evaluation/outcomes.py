"""Outcomes of a task → its metric, with a bootstrap interval. Items of one group are drawn together."""

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from jtrace.evaluation.task import Item, Outcome
from jtrace.stats.bootstrap import SHARE, difference_interval, effective_groups, group_draws
from jtrace.stats.bootstrap import interval as of_draws

DRAWS = 1000
UNLIMITED = (-np.inf, np.inf)


def estimate(outcome: Outcome, rows: np.ndarray | None = None) -> float:
    """The metric, over all items or some; NaN where none of them counts.

    Args:
        rows: bool [N], which items.
    """
    if outcome.of_rows is not None:
        return outcome.of_rows(np.ones(len(outcome.weights), bool) if rows is None else rows)
    weights = outcome.weights if rows is None else outcome.weights * rows
    return float(_metric(weights @ outcome.values, weights.sum(), outcome.exponential))


def interval(
    outcome: Outcome, items: Sequence[Item], seed: int, rows: np.ndarray | None = None, base: Outcome | None = None
) -> tuple[float, float] | None:
    """95 % interval of a metric by a cluster bootstrap over groups, as `jtrace.stats.bootstrap` has it for few of them.

    Of a rate that is 0 or 1 in every group, and of two rates that are alike in every group, no draw differs; the exact
    binomial bound for so many groups stands in (Clopper and Pearson 1934), see `jtrace.stats.bootstrap.interval`.

    Args:
        items: whose groups are drawn; one without a group is its own.
        seed: of the draws; the same seed and groups draw the same groups for every metric.
        rows: bool [N], which items; None for all.
        base: the interval is that of the difference from this outcome, on the same draws.

    Returns:
        None where fewer than two (effective) groups count, or the metric is no mean over items: nothing can be said
        then.
    """
    both = (outcome,) if base is None else (outcome, base)
    if any(one.of_rows is not None for one in both):
        return None
    counted = np.any([one.weights > 0 for one in both], axis=0) & (True if rows is None else rows)
    names = [item.group or f"\0{at}" for at, item in enumerate(items)]
    groups, members = np.unique(np.array(names)[counted], return_inverse=True)
    if len(groups) < 2:
        return None
    drawn = np.concatenate([np.ones((1, len(groups))), _drawn(seed, len(groups))])

    def sums(one: Outcome) -> tuple[np.ndarray, np.ndarray]:
        weights = one.weights[counted]
        total, weight = (np.bincount(members, c, len(groups)) for c in (weights * one.values[counted], weights))
        return drawn @ total, drawn @ weight

    effective = effective_groups(np.bincount(members, outcome.weights[counted], len(groups)))
    are_rates = all(np.isin(one.values[counted][one.weights[counted] > 0], (0.0, 1.0)).all() for one in both)
    if base is not None:
        differences = _metric(*sums(outcome), outcome.exponential) - _metric(*sums(base), base.exponential)
        if are_rates and not outcome.exponential:
            return difference_interval(differences[1:], differences[0], effective)
        return of_draws(differences[1:], differences[0], effective, UNLIMITED)
    means = _metric(*sums(outcome), exponential=False)
    limits = SHARE if are_rates and not outcome.exponential else UNLIMITED
    ends = of_draws(means[1:], means[0], effective, limits)
    if ends is None or not outcome.exponential:
        return ends
    return float(np.exp(ends[0])), float(np.exp(ends[1]))


def validation_part(items: Sequence[Item], seed: int, share: float = 1 / 3) -> np.ndarray:
    """Items that choose layer and strength, bool [N]: about a share of them, whole groups, drawn by the seed."""
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
    return group_draws(np.arange(groups), DRAWS, seed).astype(np.float64)


def _metric(total: np.ndarray, weight: np.ndarray, exponential: bool) -> np.ndarray:
    mean = np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=np.asarray(weight) > 0)
    return np.exp(mean) if exponential else mean
