"""Probes of heads, and the choice of the best, against scikit-learn and plain differences of means."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jtrace.probing.head_probes import best_heads, head_accuracies, head_vectors
from tests.conftest import relative_error

RANDOM = np.random.default_rng(0)
ROWS, HEADS, SIZE = 150, 3, 6
LABELS = RANDOM.integers(0, 2, ROWS)
# The second head tells labels apart well, the third somewhat.
DATA = RANDOM.normal(size=(ROWS, HEADS, SIZE)) + LABELS[:, None, None] * np.array([0, 1.5, 0.4])[:, None]


def test_accuracies_are_those_of_a_logistic_regression_on_scaled_features():
    train, test = np.arange(120), np.arange(120, ROWS)
    accuracies, at_optimum = head_accuracies(
        jnp.asarray(DATA, jnp.float32), jnp.asarray(LABELS, jnp.float32), jnp.asarray(train), jnp.asarray(test)
    )
    assert np.asarray(at_optimum).all()
    for head in range(HEADS):
        z = (DATA[:, head] - DATA[train, head].mean(axis=0)) / DATA[train, head].std(axis=0, ddof=1)
        expected = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(z[train], LABELS[train])
        assert float(accuracies[head]) == pytest.approx(expected.score(z[test], LABELS[test]), abs=1e-6)
    assert int(np.argmax(accuracies)) == 1


def test_the_best_are_chosen_and_of_equal_ones_the_lower():
    accuracies = np.array([[0.5, 0.9], [0.9, 0.7]])
    assert best_heads(accuracies, 1).tolist() == [[False, True], [False, False]]
    assert best_heads(accuracies, 3).tolist() == [[False, True], [True, True]]


def test_a_head_s_vector_is_one_deviation_along_its_difference_of_means():
    leading = np.arange(ROWS) < 100
    vectors = head_vectors(jnp.asarray(DATA, jnp.float32), jnp.asarray(LABELS, jnp.float32), jnp.asarray(leading))
    for head in range(HEADS):
        part, labels = DATA[leading, head], LABELS[leading]
        unit = part[labels == 1].mean(axis=0) - part[labels == 0].mean(axis=0)
        unit /= np.linalg.norm(unit)
        assert relative_error(vectors[head], unit * (DATA[:, head] @ unit).std(ddof=1)) < 1e-5
