"""The logistic solver against scikit-learn at convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jtrace.kernels.logistic import decision, fit_logistic
from tests.bars import within

fit_jitted = jax.jit(fit_logistic)


def problem(n, d, separation, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.4).astype(np.float32)
    direction = random.normal(size=d) / np.sqrt(d)
    x = random.normal(size=(n, d)) + separation * labels[:, None] * direction
    return x.astype(np.float32), labels, random.normal(size=(4000, d)).astype(np.float32)


def sklearn_fit(x, labels, c=1.0):
    return LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(x.astype(np.float64), labels)


@pytest.mark.parametrize(
    ("n", "d", "separation"),
    [
        pytest.param(300, 40, 1.0, id="more rows than features"),
        pytest.param(60, 300, 1.0, id="fewer rows than features"),
        pytest.param(100, 100, 1.0, id="as many"),
        pytest.param(300, 20, 30.0, id="separable, n > d"),
        pytest.param(50, 200, 30.0, id="separable, n < d"),
        pytest.param(400, 3, 0.0, id="nothing to find"),
    ],
)
@pytest.mark.parametrize("c", [1.0, 0.01, 10.0])
def test_equals_sklearn_at_convergence(n, d, separation, c):
    x, labels, unseen = problem(n, d, separation)
    fit, expected = fit_jitted(x, labels, c), sklearn_fit(x, labels, c)
    assert fit.converged
    assert np.linalg.norm(fit.weights - expected.coef_[0]) <= 1e-4 * np.linalg.norm(expected.coef_)
    assert fit.intercept == pytest.approx(expected.intercept_[0], abs=1e-4)
    found, exact = decision(jnp.asarray(unseen), fit) > 0, expected.decision_function(unseen) > 0
    within("probe, share of decisions other than scikit-learn's", np.mean(found != exact), 1e-3)


@pytest.mark.parametrize(("n", "d"), [(200, 10), (30, 60)])
def test_an_offset_of_the_features_moves_only_the_intercept(n, d):
    x, labels, _ = problem(n, d, 1.0)
    plain, moved = fit_jitted(x, labels), fit_jitted(x + 100, labels)
    np.testing.assert_allclose(plain.weights, moved.weights, atol=1e-4)
    assert moved.intercept == pytest.approx(float(plain.intercept - 100 * plain.weights.sum()), abs=0.05)


def test_constant_features_get_no_weight():
    x, labels, _ = problem(100, 10, 1.0)
    x[:, 3] = 0.0
    fit = fit_jitted(x, labels)
    assert fit.converged
    assert fit.weights[3] == 0


def test_duplicated_features_share_their_weight():
    x, labels, _ = problem(100, 10, 1.0)
    fit = fit_jitted(np.concatenate([x, x[:, :1]], axis=1), labels)
    assert fit.weights[0] == pytest.approx(float(fit.weights[10]), rel=1e-3)


@pytest.mark.parametrize(("n", "d"), [(200, 30), (30, 200)])
def test_the_gradient_vanishes_at_the_fit(n, d):
    x, labels, _ = problem(n, d, 1.0)
    fit = fit_jitted(x, labels)
    x64, w = x.astype(np.float64), np.asarray(fit.weights, np.float64)
    residual = labels - 1 / (1 + np.exp(-(x64 @ w + float(fit.intercept))))
    assert np.abs(w - x64.T @ residual).max() <= 1e-3
    assert abs(residual.sum()) <= 1e-3


def test_a_fit_that_is_stopped_says_so():
    x, labels, _ = problem(300, 40, 1.0)
    assert not fit_logistic(jnp.asarray(x), jnp.asarray(labels), max_iterations=2).converged
