"""The published steering vector against float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.steering import mass_mean_vector
from tests.bars import within
from tests.conftest import relative_error


def published(x, labels, leading):
    """Class-mean difference of the leading rows, normalised, times the spread of all rows along it; float64."""
    x = x.astype(np.float64)
    difference = x[(labels == 1) & leading].mean(0) - x[(labels == 0) & leading].mean(0)
    unit = difference / np.linalg.norm(difference)
    return unit * (x @ unit).std(ddof=1)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_equals_float64(offset, share):
    random = np.random.default_rng(0)
    labels = (random.random(200) < 0.4).astype(np.float32)
    x = (random.normal(size=(200, 12)) + 0.5 * labels[:, None] + offset).astype(np.float32)
    leading = np.arange(200) < share * 200
    found = mass_mean_vector(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(leading))
    within("vectors against float64", relative_error(found, published(x, labels, leading)), 1e-4)


def test_it_points_to_label_one_and_turns_with_the_labels():
    x = jnp.asarray([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]])
    labels, leading = jnp.asarray([0.0, 0.0, 1.0, 1.0]), jnp.ones(4, bool)
    vector = mass_mean_vector(x, labels, leading)
    np.testing.assert_allclose(vector, [np.std([0, 0, 4, 4], ddof=1), 0], atol=1e-6)
    np.testing.assert_allclose(mass_mean_vector(x, 1 - labels, leading), -vector, atol=1e-6)


def test_equal_class_means_give_zero_not_nan():
    x = jnp.asarray([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]])
    vector = mass_mean_vector(x, jnp.asarray([0.0, 0.0, 1.0, 1.0]), jnp.ones(4, bool))
    np.testing.assert_array_equal(vector, [0, 0])
