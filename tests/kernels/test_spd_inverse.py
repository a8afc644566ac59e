"""Inverses and inverse factors against float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.spd_inverse import (
    factor_at_once,
    factor_by_halves,
    inverse_by_blocks,
    inverse_by_cholesky,
    inverse_factor,
    spd_inverse,
)
from tests.cases import few


def positive_definite(n, condition):
    random = np.random.default_rng(n)
    vectors = np.linalg.qr(random.normal(size=(n, n)))[0]
    return (vectors * np.geomspace(1, condition, n)) @ vectors.T


@pytest.mark.parametrize("n", few([1, 97, 300, 2, 95, 600], 3))
@pytest.mark.parametrize("condition", [1.0, 50.0, 1e4, 1e6])
@pytest.mark.parametrize("factor", [factor_by_halves, factor_at_once, inverse_factor])
def test_is_the_inverse_as_far_as_the_condition_allows(n, condition, factor):
    a = positive_definite(n, condition)
    found = np.asarray(factor(jnp.asarray(a, jnp.float32)), np.float64)
    assert (found == np.tril(found)).all()
    assert np.linalg.norm(found.T @ found @ a - np.eye(n)) / np.sqrt(n) <= 1e-7 * max(condition, 100)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 300, 600])
@pytest.mark.parametrize("condition", [1.0, 50.0, 1e4])
@pytest.mark.parametrize("inverse", [inverse_by_blocks, inverse_by_cholesky, spd_inverse])
def test_equals_float64_as_far_as_the_condition_allows(n, condition, inverse):
    a = positive_definite(n, condition)
    exact = np.linalg.inv(a)
    found = inverse(jnp.asarray(a, jnp.float32))
    assert np.abs(found - exact).max() <= 1e-6 * condition * np.abs(exact).max()


@pytest.mark.parametrize("factor", [factor_by_halves, factor_at_once])
def test_a_matrix_that_is_not_positive_definite_has_none(factor):
    a = np.eye(200, dtype=np.float32)
    a[150, 150] = -1
    assert np.isnan(factor(jnp.asarray(a))).any()
