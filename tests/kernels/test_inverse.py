"""Inverses through Cholesky factors, against float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.inverse import factor_at_once, factor_by_halves, inverse_factor, spd_inverse


def positive_definite(n, condition):
    random = np.random.default_rng(n)
    vectors = np.linalg.qr(random.normal(size=(n, n)))[0]
    return (vectors * np.geomspace(1, condition, n)) @ vectors.T


@pytest.mark.parametrize("n", [1, 2, 95, 97, 300, 600])
@pytest.mark.parametrize("condition", [1.0, 50.0, 1e4, 1e6])
@pytest.mark.parametrize("factor", [factor_by_halves, factor_at_once, inverse_factor])
def test_is_the_inverse_as_far_as_the_condition_allows(n, condition, factor):
    a = positive_definite(n, condition)
    found = np.asarray(factor(jnp.asarray(a, jnp.float32)), np.float64)
    assert (found == np.tril(found)).all()
    assert np.linalg.norm(found.T @ found @ a - np.eye(n)) / np.sqrt(n) <= 1e-7 * max(condition, 100)


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e6])
def test_is_symmetric_without_negative_eigenvalues(condition):
    found = np.asarray(spd_inverse(jnp.asarray(positive_definite(300, condition), jnp.float32)), np.float64)
    np.testing.assert_allclose(found, found.T, atol=1e-7)
    assert np.linalg.eigvalsh(found)[0] > 0


@pytest.mark.parametrize("factor", [factor_by_halves, factor_at_once])
def test_a_matrix_that_is_not_positive_definite_has_none(factor):
    a = np.eye(200, dtype=np.float32)
    a[150, 150] = -1
    assert np.isnan(factor(jnp.asarray(a))).any()
