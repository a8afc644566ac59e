"""lm-eval's aggregations as outcomes: the same metric, with an interval where documents have values of their own."""

import math

import numpy as np
import pytest
from lm_eval.api.metrics import bits_per_byte, mean, nanmean, perplexity, weighted_perplexity

from jtrace.evaluation.harness.metrics import outcome_of
from jtrace.evaluation.outcomes import estimate, interval
from jtrace.evaluation.task import Text

ITEMS = [Text(at, "") for at in range(4)]
LIKELIHOODS = [(-12.0, 5), (-3.0, 4), (-40.0, 21), (-7.5, 2)]  # of a document in nats, and its words or bytes


@pytest.mark.parametrize(
    ("aggregate", "values"),
    [
        (mean, [1.0, 0.0, 1, np.float32(0.25)]),
        (perplexity, [-1.5, -0.25, -3.0, -2.0]),
        (weighted_perplexity, LIKELIHOODS),
        (bits_per_byte, LIKELIHOODS),
    ],
)
def test_a_mean_over_documents_is_lm_eval_s_and_has_an_interval(aggregate, values):
    outcome = outcome_of(values, aggregate)
    assert estimate(outcome) == pytest.approx(aggregate(values), rel=1e-12)
    # Also of some of the documents, as a bootstrap draws them.
    assert estimate(outcome, np.array([True, False, True, True])) == pytest.approx(
        aggregate([values[at] for at in (0, 2, 3)]), rel=1e-12
    )
    low, high = interval(outcome, ITEMS, 0)
    assert low < aggregate(values) < high


@pytest.mark.parametrize("aggregate", [mean, nanmean])
def test_documents_without_a_value_do_not_count(aggregate):
    outcome = outcome_of([1.0, None, 0.0, None], aggregate)
    assert estimate(outcome) == 0.5
    np.testing.assert_array_equal(outcome.weights, [1, 0, 1, 0])


def test_of_perplexities_too_documents_without_a_value_do_not_count():
    outcome = outcome_of([None, *LIKELIHOODS[:2]], weighted_perplexity)
    assert estimate(outcome) == pytest.approx(math.exp(15 / 9), rel=1e-12)
    assert estimate(outcome_of([-2.0, None], perplexity)) == pytest.approx(math.exp(2), rel=1e-12)


def test_a_metric_of_all_documents_together_has_a_value_and_no_interval():
    values = [(0, 0), (1, 1), None, (1, 0)]
    outcome = outcome_of(values, lambda pairs: sum(a == b for a, b in pairs) / math.sqrt(len(pairs)))
    assert estimate(outcome) == pytest.approx(2 / math.sqrt(3))
    assert estimate(outcome, np.array([True, True, True, False])) == pytest.approx(2 / math.sqrt(2))
    assert interval(outcome, ITEMS, 0) is None
    assert outcome.weights.sum() == 3


def test_no_document_at_all_has_no_metric():
    assert math.isnan(estimate(outcome_of([None, (1, 1)], sum), np.array([True, False])))
