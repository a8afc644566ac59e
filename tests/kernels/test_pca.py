"""The plane of the first two principal components."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.pca import leading_eigenvectors, principal_plane


def plane_of(x, labels):
    return np.asarray(principal_plane(jnp.asarray(x, jnp.float32), jnp.asarray(labels, jnp.float32)))


@pytest.mark.parametrize("shape", [(60, 12), (30, 200), (40, 40)])
def test_scores_are_those_of_a_singular_value_decomposition(shape):
    random = np.random.default_rng(0)
    x = random.normal(size=shape) * 0.8 ** np.arange(shape[1]) + 3
    labels = (random.random(shape[0]) > 0.5).astype(np.float32)
    found = plane_of(x, labels)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :2] * s[:2]), atol=2e-3 * s[0])


def test_both_axes_point_to_label_1():
    random = np.random.default_rng(1)
    x = random.normal(size=(50, 7)).astype(np.float32)
    labels = (np.arange(50) % 2).astype(np.float32)
    for signed in (x, -x):
        plane = plane_of(signed, labels)
        assert (plane[labels == 1].mean(axis=0) >= plane[labels == 0].mean(axis=0)).all()
    np.testing.assert_allclose(plane_of(x, labels), plane_of(-x, labels), atol=1e-4)


def test_what_never_varies_lies_in_one_point():
    labels = (np.arange(10) % 2).astype(np.float32)
    np.testing.assert_array_equal(plane_of(np.ones((10, 3)), labels), 0)


def test_a_single_feature_has_no_second_axis():
    x = np.arange(6, dtype=np.float32)[:, None]
    plane = plane_of(x, x[:, 0] > 2)
    np.testing.assert_allclose(plane, np.column_stack([x[:, 0] - 2.5, np.zeros(6)]), atol=1e-5)


def test_eigenvalues_come_largest_first():
    matrix = np.diag(np.arange(1, 21, dtype=np.float32))
    values, _ = leading_eigenvectors(jnp.asarray(matrix))
    np.testing.assert_allclose(values[:2], [20, 19], rtol=1e-3)
