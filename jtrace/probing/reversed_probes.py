"""Probes that are wrong more often than a coin: related rows of opposite labels, as a rule, and not a weak concept."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from jtrace.probing.records import Metric
from jtrace.stats.quantiles import Z95

# In half 95 % intervals: of thirty layers without a concept, one in a thousand sets has one so far below one half.
FAR = 2.0


def is_reversed(accuracy: float, high: float | None, rows: int) -> bool:
    """Tell whether an accuracy is so far below one half that chance does not explain it.

    Args:
        high: upper end of its 95 % interval; None or NaN where it is not known.
        rows: that decide then (normal approximation).
    """
    half = Z95 * 0.5 / rows**0.5 if high is None or np.isnan(high) else high - accuracy
    return bool(0.5 - accuracy > FAR * half)


def reversed_probes(metrics: Sequence[Metric]) -> Iterator[str]:
    """A warning for each set and protocol that has such a layer, metrics of one in a row."""
    probes = [metric for metric in metrics if metric.metric == "probe_accuracy"]
    for (dataset, protocol), of_set in groupby(probes, lambda metric: (metric.dataset, metric.protocol)):
        below_chance = [metric for metric in of_set if is_reversed(metric.value, metric.ci_high, metric.n)]
        if below_chance:
            worst = min(below_chance, key=lambda metric: metric.value)
            yield (
                f"{dataset}: under {protocol} probes are right on {worst.value:.0%} of rows at layer {worst.layer}, "
                "far less than a coin; look for related rows with opposite labels (twins)"
            )
