"""lm-eval's metrics as outcomes: a number for each document where it has one, else a function of all of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lm_eval.api.metrics import bits_per_byte, mean, nanmean, perplexity, weighted_perplexity

from jtrace.evaluation.task import Outcome

Aggregation = Callable[[Sequence[Any]], Any]


def outcome_of(values: Sequence[Any], aggregate: Aggregation) -> Outcome:
    """A metric of documents, None for those that it does not count, as lm-eval's aggregation sums it up.

    Means, of accuracies or of log-likelihoods over words and bytes, have a value for each document, over which jtrace
    draws; F1, BLEU and their like have one for all documents together, and no interval.
    """
    counted = np.array([value is not None for value in values])
    known = [value for value in values if value is not None]

    def spread(numbers: Sequence[float]) -> np.ndarray:
        whole = np.zeros(len(values))
        whole[counted] = numbers
        return whole

    weights = counted.astype(np.float64)
    if aggregate in (mean, nanmean) and all(isinstance(value, int | float | np.number) for value in known):
        return Outcome.of([math.nan if value is None else float(value) for value in values])
    if aggregate is perplexity:
        return Outcome(spread([-float(value) for value in known]), weights, exponential=True)
    if aggregate in (weighted_perplexity, bits_per_byte):
        sizes = spread([float(size) for _, size in known])
        each = spread([-float(total) / max(size, 1) for total, size in known])
        if aggregate is weighted_perplexity:
            return Outcome(each, sizes, exponential=True)
        return Outcome(each / math.log(2), sizes)

    def of_rows(rows: np.ndarray) -> float:
        some = [value for value, row in zip(values, rows, strict=True) if row and value is not None]
        return float(aggregate(some)) if some else math.nan

    return Outcome(np.zeros(len(values)), weights, of_rows=of_rows)
