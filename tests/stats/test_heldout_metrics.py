"""Metrics of held-out predictions equal scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from jtrace.stats.heldout_metrics import accuracy, auroc, label_entropy, linear_auroc, log_loss
from tests.predictions import held_out


def some(seed, count=300, repeats=1, folds=5, decimals=1):
    """Predictions with ties, and weights as a bootstrap has them: ones, then counts."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    scores = (random.normal(size=(repeats, count)) + 1.5 * labels - 0.5).round(decimals)
    weights = np.concatenate([np.ones((1, count)), random.poisson(1.0, (4, count))])
    found = held_out(scores, labels, random.integers(0, folds, (repeats, count)))
    return found, jnp.asarray(weights, jnp.float32)


def by_pairs(found, weights):
    """The definition of AUROC, pair by pair."""
    labels, scores, folds = np.asarray(found.labels), np.asarray(found.scores), np.asarray(found.folds)
    above = pairs = 0.0
    for score, fold in zip(scores, folds, strict=True):
        for i, j in np.ndindex(len(labels), len(labels)):
            if labels[i] == 1 and labels[j] == 0 and fold[i] == fold[j]:
                pairs += weights[i] * weights[j]
                above += weights[i] * weights[j] * ((score[i] > score[j]) + (score[i] == score[j]) / 2)
    return above / pairs


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_auroc_of_one_fold_is_scikit_learns_with_ties_and_weights(decimals):
    found, weights = some(0, folds=1, decimals=decimals)
    expected = [roc_auc_score(found.labels, found.scores[0], sample_weight=w) for w in np.asarray(weights)]
    np.testing.assert_allclose(auroc(found.scores, found.folds, found.labels, weights), expected, atol=1e-6)


def test_auroc_of_a_long_set_keeps_its_digits():
    found, weights = some(1, count=6500, folds=1)
    expected = [roc_auc_score(found.labels, found.scores[0], sample_weight=w) for w in np.asarray(weights)]
    np.testing.assert_allclose(auroc(found.scores, found.folds, found.labels, weights), expected, atol=1e-6)


def test_the_linear_auroc_is_exact_with_ties_where_rows_weigh_alike_and_near_it_under_draws():
    found, weights = some(5, count=2000, folds=1)
    exact = auroc(found.scores, found.folds, found.labels, weights)
    near = linear_auroc(found.scores, found.labels, jnp.ones(2000, bool), weights)[0]
    assert near[0] == pytest.approx(float(exact[0]), abs=1e-6)
    np.testing.assert_allclose(near[1:], exact[1:], atol=1e-3)
    assert np.ptp(exact) > 5e-3


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_only_rows_held_out_together_are_compared(seed):
    found, weights = some(seed, count=30, repeats=2, folds=3, decimals=0)
    expected = [by_pairs(found, w) for w in np.asarray(weights)]
    np.testing.assert_allclose(auroc(found.scores, found.folds, found.labels, weights), expected, atol=1e-6)


def test_a_probe_whose_folds_have_other_intercepts_ranks_within_them():
    labels, folds = [0, 1, 0, 1], [0, 0, 1, 1]
    found = held_out([-9.0, -8.0, 8.0, 9.0], labels, folds)
    assert auroc(found.scores, found.folds, found.labels, jnp.ones((1, 4))).tolist() == [1.0]
    assert roc_auc_score(labels, found.scores[0]) == 0.75


def test_weights_that_leave_no_pair_have_no_auroc():
    found = held_out([0.1, 0.2, 0.3], [0, 1, 1], [0, 1, 1])
    weights = jnp.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    assert np.isnan(auroc(found.scores, found.folds, found.labels, weights)).all()


def test_log_loss_is_scikit_learns_and_finite_at_any_certainty():
    found, weights = some(2)
    chance = 1 / (1 + np.exp(-np.asarray(found.scores[0], np.float64)))
    expected = [sklearn_log_loss(found.labels, chance, sample_weight=w) for w in np.asarray(weights)]
    np.testing.assert_allclose(log_loss(found.scores, found.labels, weights), expected, atol=1e-6)

    certain = held_out([1e4, -1e4], [1, 1])
    np.testing.assert_allclose(log_loss(certain.scores, certain.labels, jnp.ones((1, 2))), [5e3])


def test_accuracy_counts_the_side_of_zero_and_zero_is_for_label_0():
    found = held_out([0.0, 0.0, 1.0, -1.0], [0, 1, 1, 1])
    weights = jnp.array([[1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 1.0, 1.0]])
    assert accuracy(found.scores, found.labels, weights).tolist() == pytest.approx([0.5, 0.8])


@pytest.mark.parametrize("metric", [accuracy, log_loss])
def test_repeats_count_as_if_their_rows_stood_side_by_side(metric):
    found, weights = some(4, repeats=3)
    pooled = held_out(found.scores.reshape(1, -1), jnp.tile(found.labels, 3))
    expected = metric(pooled.scores, pooled.labels, jnp.tile(weights, (1, 3)))
    np.testing.assert_allclose(metric(found.scores, found.labels, weights), expected, atol=1e-6)


def test_label_entropy_is_in_nats_and_nothing_where_one_label_is_left():
    weights = jnp.array([[1.0, 1.0, 0.0], [1.0, 1.0, 2.0], [0.0, 1.0, 1.0]])
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(label_entropy(jnp.array([0.0, 1.0, 1.0]), weights), [np.log(2), quarter, 0.0], atol=1e-6)
