"""The inverse by blocks against the Cholesky reference and float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.inverse import inverse_by_blocks, inverse_by_cholesky, spd_inverse


def positive_definite(n, condition):
    random = np.random.default_rng(n)
    vectors = np.linalg.qr(random.normal(size=(n, n)))[0]
    return (vectors * np.geomspace(1, condition, n)) @ vectors.T


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 300, 600])
@pytest.mark.parametrize("condition", [1.0, 50.0, 1e4])
@pytest.mark.parametrize("inverse", [inverse_by_blocks, inverse_by_cholesky, spd_inverse])
def test_equals_float64_as_far_as_the_condition_allows(n, condition, inverse):
    a = positive_definite(n, condition)
    exact = np.linalg.inv(a)
    found = inverse(jnp.asarray(a, jnp.float32))
    assert np.abs(found - exact).max() <= 1e-6 * condition * np.abs(exact).max()
