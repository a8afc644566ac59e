"""The median heuristic: a bandwidth at which the median pair of rows has the kernel exp(−½)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist

from jtrace.kernels.gram import median_bandwidth


def rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), [(2, 1), (5, 3), (101, 40), (256, 7)])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-3, 0.0), (1.0, 100.0)])
def test_the_median_pair_has_the_kernel_exp_minus_one_half(n, d, scale, offset):
    x = np.float32(scale) * rows(n, d) + np.float32(offset)
    squared = pdist(x.astype(np.float64), "sqeuclidean")
    kernel = np.exp(-squared / (2 * float(jax.jit(median_bandwidth)(x)) ** 2 * d))
    assert np.median(kernel) == pytest.approx(np.exp(-0.5), rel=5e-4)


def test_only_the_first_rows_count():
    x = rows(300, 4)
    x[256:] *= 1e3
    assert median_bandwidth(jnp.asarray(x)) == median_bandwidth(jnp.asarray(x[:256]))
    assert median_bandwidth(jnp.asarray(x), rows=20) == median_bandwidth(jnp.asarray(x[:20]))


@pytest.mark.parametrize("x", [np.zeros((9, 3)), np.full((9, 3), 1e4 + 0.1)])
def test_features_that_never_vary_have_the_bandwidth_one(x):
    assert median_bandwidth(jnp.asarray(x, jnp.float32)) == 1


@pytest.mark.parametrize("width", [17, 300, 577])
def test_so_have_rows_most_of_which_are_equal_although_their_distances_are_rounded(width):
    x = rows(80, width)
    x[:70] = x[0]
    assert median_bandwidth(jnp.asarray(x)) == 1


def test_an_outlier_leaves_the_others_apart():
    x = rows(100, 6)
    x[0] *= 1e3
    assert 0.9 < median_bandwidth(jnp.asarray(x)) < 2
