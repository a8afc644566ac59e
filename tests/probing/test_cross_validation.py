"""Probes under grouped cross-validation, against scikit-learn and against leaks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from jtrace.data.splits import repeated_folds
from jtrace.kernels.standardise import scaled, training_scale
from jtrace.probing.cross_validation import STRENGTHS, cross_validate, fold_rows, held_out_scores
from tests.bars import within

cross_validated = jax.jit(cross_validate)


def pairs(n=120, d=20, separation=1.5, seed=0):
    """Rows in groups of two, one of each label."""
    random = np.random.default_rng(seed)
    labels = np.tile([0, 1], n // 2)
    direction = random.normal(size=d) / np.sqrt(d)
    x = random.normal(size=(n, d)) * np.linspace(0.5, 20, d) + separation * labels[:, None] * direction * 10
    return x.astype(np.float32), labels, np.repeat(np.arange(n // 2), 2)


def shuffled(labels, repeats=1, seed=1):
    random = np.random.default_rng(seed)
    return jnp.asarray(np.stack([random.permutation(labels) for _ in range(repeats)]), jnp.float32)


def run(x, labels, folds):
    repeats = folds[-1].repeat + 1
    rows = fold_rows(folds, len(labels))
    found = cross_validated(jnp.asarray(x), jnp.asarray(labels, jnp.float32), shuffled(labels, repeats), rows)
    return jax.device_get(found), rows


def own(scores, rows):
    return np.asarray(held_out_scores(jnp.asarray(scores), rows.fold_of))


def by_sklearn(x, labels, fold):
    """Standardised on the training rows, C by the held-out cross-entropy of the inner rows, fitted to all of them."""
    mean, std = x[fold.train].mean(axis=0), x[fold.train].std(axis=0, ddof=1)
    z = (x.astype(np.float64) - mean) / std
    losses = np.zeros(len(STRENGTHS))
    for at, c in enumerate(STRENGTHS):
        for inner in fold.inner:
            fit = LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(z[inner.train], labels[inner.train])
            losses[at] += log_loss(labels[inner.test], fit.predict_proba(z[inner.test])[:, 1]) / len(fold.inner)
    c = STRENGTHS[losses.argmin()]
    fit = LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(z[fold.train], labels[fold.train])
    return fit.decision_function(z), c, losses.min()


@pytest.mark.parametrize(("n", "d"), [pytest.param(200, 20, id="n > d"), pytest.param(60, 100, id="n < d")])
@pytest.mark.parametrize("inner_folds", [1, 3])
@pytest.mark.slow
def test_each_fit_is_scikit_learns(n, d, inner_folds):
    x, labels, groups = pairs(n, d)
    folds = repeated_folds(labels, groups, folds=4, inner_folds=inner_folds)
    found, _ = run(x, labels, folds)
    assert found.converged.all()
    for at, fold in enumerate(folds):
        scores, c, loss = by_sklearn(x, labels, fold)
        assert found.c[at] == c
        assert found.inner_loss[at] == pytest.approx(loss, rel=1e-2)
        within("sound probe, log-odds against scikit-learn", np.abs(found.scores[at] - scores).max(), 1e-2)
        np.testing.assert_array_equal(found.scores[at] > 0, scores > 0)


@pytest.mark.slow
def test_rows_that_are_held_out_change_nothing_but_their_own_scores():
    x, labels, groups = pairs()
    folds = repeated_folds(labels, groups, folds=4)
    found, _ = run(x, labels, folds)
    moved = x.copy()
    moved[folds[0].test] += 1000
    changed, _ = run(moved, labels, folds)
    kept = np.setdiff1d(np.arange(len(labels)), folds[0].test)
    np.testing.assert_array_equal(changed.scores[0][kept], found.scores[0][kept])
    np.testing.assert_array_equal(changed.mean[0], found.mean[0])
    assert (changed.mean[1] != found.mean[1]).any()


def test_held_out_scores_are_those_of_the_fit_that_has_not_seen_the_row():
    x, labels, groups = pairs()
    folds = repeated_folds(labels, groups, folds=3, repeats=2)
    found, rows = run(x, labels, folds)
    held_out = own(found.scores, rows)
    assert held_out.shape == (2, len(labels))
    for at, fold in enumerate(folds):
        np.testing.assert_array_equal(held_out[fold.repeat, fold.test], found.scores[at, fold.test])


@pytest.mark.slow
def test_shuffled_labels_cannot_be_told_on_rows_held_out():
    x, labels, groups = pairs(400)
    found, rows = run(x, labels, repeated_folds(labels, groups))
    right = np.mean((own(found.control, rows) > 0) == labels)
    assert abs(right - 0.5) < 4 * np.sqrt(0.25 / 400)
    assert np.mean((own(found.scores, rows) > 0) == labels) > 0.8


@pytest.mark.slow
def test_the_mass_mean_probe_cuts_half_way_between_the_class_means():
    x, labels, groups = pairs()
    folds = repeated_folds(labels, groups)
    found, _ = run(x, labels, folds)
    train = folds[0].train
    z = (x - x[train].mean(axis=0)) / x[train].std(axis=0, ddof=1)
    one, zero = (z[train][labels[train] == label].mean(axis=0) for label in (1, 0))
    np.testing.assert_allclose(found.mass_mean[0], (z - (one + zero) / 2) @ (one - zero), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_constant_and_duplicated_features_are_harmless():
    x, labels, groups = pairs()
    folds = repeated_folds(labels, groups)
    padded = np.concatenate([x, x, np.full((len(x), 5), 7e4, np.float32)], axis=1)
    found, _ = run(padded, labels, folds)
    assert np.isfinite(found.scores).all()
    assert (found.weights[:, -5:] == 0).all()


@pytest.mark.slow
def test_where_there_is_nothing_to_find_weak_probes_are_chosen():
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    x = random.normal(size=(200, 50)).astype(np.float32)
    found, _ = run(x, labels, repeated_folds(labels, np.arange(200)))
    assert (found.c < 0.1).all()


def test_training_scale_is_that_of_the_rows_that_train():
    random = np.random.default_rng(0)
    x = (random.normal(size=(50, 6)) + 1e4).astype(np.float32)
    x[:, 2] = 3.3
    weights = np.r_[np.ones(40), np.zeros(10)].astype(np.float32)
    x[40:] = x[0]
    mean, scale = training_scale(jnp.asarray(x), jnp.asarray(weights))
    exact = x[:40].astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(np.delete(scale, 2), np.delete(exact.std(axis=0, ddof=1), 2), rtol=1e-4)
    assert scale[2] == 0
    assert (np.asarray(scaled(jnp.asarray(x), mean, scale))[:, 2] == 0).all()
