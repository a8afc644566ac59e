"""The logistic solver against scikit-learn at convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jtrace.kernels import logistic
from jtrace.kernels.logistic import decision, fit_logistic, logistic_solver
from jtrace.kernels.spd_inverse import factor_at_once, factor_by_halves
from jtrace.kernels.standardise import standardise
from tests.bars import within
from tests.optima import at_optimum

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
@pytest.mark.parametrize(
    "c", [1.0, pytest.param(0.01, marks=pytest.mark.optimised), pytest.param(10.0, marks=pytest.mark.optimised)]
)
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


def standardised(n, d, spectrum, outliers=1.0, seed=0):
    """Rows of a spectrum, turned at random and standardised with half as many unseen ones; labels hang on all of it."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(random.normal(size=(d, d)))[0]
    drawn = random.normal(size=(n + n // 2, d))
    x = (drawn * spectrum) @ turn.T
    x[:, :3] *= outliers
    labels = drawn @ random.normal(size=d) / np.sqrt(d) + drawn[:, 0] + 0.5 * random.normal(size=len(x)) > 0
    z = np.asarray(standardise(jnp.asarray(x, jnp.float32)))
    return z[:n], labels[:n].astype(np.float32), z[n:]


SHAPES = [pytest.param(600, 200, id="n > d"), pytest.param(200, 200, id="n = d"), pytest.param(120, 200, id="n < d")]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("outliers", [1.0, 1000.0])
@pytest.mark.parametrize("c", [1.0, 1e-3])
def test_reaches_the_optimum_whatever_the_condition(n, d, condition, outliers, c):
    z, labels, unseen = standardised(n, d, np.geomspace(1, 1 / condition, d), outliers)
    fit = fit_jitted(z, labels, c)
    at_optimum("generated", z, labels, c, fit, unseen)


def test_reaches_the_optimum_where_one_direction_holds_nearly_all_the_spread():
    z, labels, unseen = standardised(2000, 576, 1 / np.arange(1, 577))
    at_optimum("generated", z, labels, 1.0, fit_jitted(z, labels), unseen)


@pytest.mark.parametrize("factor", [factor_by_halves, factor_at_once])
def test_a_cpus_way_to_a_factor_and_an_accelerators_lead_to_one_probe(factor, monkeypatch):
    monkeypatch.setattr(logistic, "inverse_factor", factor)
    z, labels, unseen = standardised(600, 200, np.geomspace(1, 1e-5, 200))
    at_optimum("generated", z, labels, 1.0, jax.jit(lambda *of: fit_logistic(*of))(z, labels), unseen)


@pytest.mark.parametrize("useless", [0.0, np.nan, 1e3])
def test_a_factor_that_is_of_no_use_is_made_anew(useless):
    z, labels, unseen = standardised(600, 200, np.geomspace(1, 1e-5, 200))
    fit = fit_from_factor(jnp.asarray(z), jnp.asarray(labels), useless * jnp.eye(201))
    at_optimum("generated", z, labels, 1.0, fit, unseen)


@jax.jit
def fit_from_factor(x, labels, factor):
    solver, c = logistic_solver(x), jnp.ones(len(x))
    return solver.fit(solver.solve(solver.first(c)._replace(factor=factor), labels, c, logistic.TOLERANCE))


def test_a_hessian_that_float32_cannot_factorise_still_gives_a_direction(monkeypatch):
    monkeypatch.setattr(logistic, "inverse_factor", lambda a: jnp.full_like(a, jnp.nan))
    z, labels, unseen = standardised(300, 20, np.geomspace(1, 0.1, 20))
    at_optimum("generated", z, labels, 1.0, jax.jit(lambda *of: fit_logistic(*of))(z, labels), unseen)


def test_a_fit_that_is_stopped_says_so(monkeypatch):
    monkeypatch.setattr(logistic, "MOST_STEPS", 1)
    x, labels, _ = problem(300, 40, 1.0)
    assert not jax.jit(lambda *of: fit_logistic(*of))(x, labels).converged


def test_what_is_not_finite_has_not_converged():
    x, labels, _ = problem(300, 40, 1.0)
    x[3, 3] = np.inf
    assert not fit_jitted(x, labels).converged
