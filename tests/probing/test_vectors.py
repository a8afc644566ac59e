"""Steering vectors against float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

from jtrace.probing.vectors import (
    KINDS,
    class_distance,
    mass_mean_vector,
    random_vector,
    shuffled_labels,
    whitened_vector,
)
from tests.bars import within
from tests.cases import few
from tests.conftest import relative_error

every_kind = pytest.mark.parametrize("kind", KINDS)


def problem(n=200, d=12, offset=0.0, share=0.5):
    """Features of unequal spread that share noise, labels they depend on, and the leading rows."""
    random = np.random.default_rng(0)
    labels = (random.random(n) < 0.4).astype(np.float32)
    x = random.normal(size=(n, d)) @ (np.eye(d) + 0.3 * random.normal(size=(d, d))) * np.geomspace(0.5, 5, d)
    x[:, ::3] += 1.5 * labels[:, None]
    return (x + offset).astype(np.float32), labels, np.arange(n) < share * n


def made(kind, x, labels, leading):
    return np.asarray(KINDS[kind].vector(*map(jnp.asarray, (x, labels, leading))))


def spread_along(x, direction):
    unit = direction / np.linalg.norm(direction)
    return unit * (x @ unit).std(ddof=1)


def mean_difference(x, labels, leading):
    return x[(labels == 1) & leading].mean(0) - x[(labels == 0) & leading].mean(0)


def whitened(x, labels, leading):
    scale = x.std(axis=0, ddof=1)
    z = x / scale
    centred = np.concatenate([z[rows] - z[rows].mean(0) for rows in ((labels == 1) & leading, (labels == 0) & leading)])
    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    return np.linalg.solve(covariance, mean_difference(z, labels, leading)) / scale


def probe(x, labels, leading):
    scale = x.std(axis=0, ddof=1)
    z = (x - x.mean(0)) / scale
    return LogisticRegression(tol=1e-9, max_iter=100_000).fit(z[leading], labels[leading]).coef_[0] / scale


def pca(x, labels, leading):
    pairs = zip(x[(labels == 1) & leading], x[(labels == 0) & leading], strict=False)
    first = np.linalg.svd(np.stack([one - zero for one, zero in pairs]))[2][0]
    return first * np.sign(first @ mean_difference(x, labels, leading))


def shuffled(x, labels, leading):
    return mean_difference(x, np.asarray(shuffled_labels(jnp.asarray(labels), jnp.asarray(leading))), leading)


REFERENCES = {"mass_mean": mean_difference, "whitened": whitened, "probe": probe, "pca": pca, "shuffled": shuffled}


@every_kind
@pytest.mark.parametrize("offset", few([100.0, 0.0]))
@pytest.mark.parametrize(("n", "d", "share"), [(200, 12, 0.5), (200, 12, 1.0), (80, 150, 0.5)])
def test_equals_float64(kind, n, d, share, offset):
    x, labels, leading = problem(n, d, offset, share)
    exact = x.astype(np.float64)
    expected = spread_along(exact, REFERENCES[kind](exact, labels, leading))
    within(f"{kind} vectors against float64", relative_error(made(kind, x, labels, leading), expected), 1e-4)


@every_kind
def test_its_length_is_the_spread_of_all_rows_along_it(kind):
    x, labels, leading = problem()
    vector = made(kind, x, labels, leading).astype(np.float64)
    assert np.linalg.norm(vector) == pytest.approx((x @ vector).std(ddof=1) / np.linalg.norm(vector), rel=1e-5)


@every_kind
def test_it_points_to_label_one_and_turns_with_the_labels(kind):
    x, labels, leading = problem()
    vector = made(kind, x, labels, leading)
    if kind != "shuffled":
        assert vector @ mean_difference(x, labels, leading) > 0
    turned = made(kind, x, 1 - labels, leading)
    assert relative_error(turned, -vector) <= 1e-4


@every_kind
def test_only_the_spread_depends_on_rows_that_do_not_lead(kind):
    x, labels, leading = problem()
    vector, other = (made(kind, x, flipped, leading) for flipped in (labels, np.where(leading, labels, 1 - labels)))
    assert relative_error(other, vector) <= 1e-5


def test_the_plain_norm_is_the_distance_of_the_class_means():
    x, labels, leading = problem(offset=100.0)
    exact = mean_difference(x.astype(np.float64), labels, leading)
    assert float(class_distance(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(leading))) == pytest.approx(
        np.linalg.norm(exact), rel=1e-5
    )


def test_the_published_vector_by_hand():
    x, labels = jnp.asarray([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]]), jnp.asarray([0.0, 0.0, 1.0, 1.0])
    vector = mass_mean_vector(x, labels, jnp.ones(4, bool))
    np.testing.assert_allclose(vector, [np.std([0, 0, 4, 4], ddof=1), 0], atol=1e-6)


@every_kind
@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.tile([[1.0, 2.0, 7.0], [3.0, 4.0, 7.0]], (10, 1)), id="equal class means"),
        pytest.param(np.full((20, 3), 5.0), id="nothing varies"),
        pytest.param(np.zeros((20, 300)), id="nothing at all, N < D"),
    ],
)
def test_degenerate_rows_give_zero_not_nan(kind, x):
    # Both labels have the same rows in the same order: only a shuffle can part them.
    labels = np.tile(np.float32([0, 0, 1, 1]), 5)
    vector = made(kind, x.astype(np.float32), labels, np.ones(20, bool))
    assert np.isfinite(vector).all()
    if kind != "shuffled" or not x.std(axis=0).any():
        np.testing.assert_array_equal(vector, 0)


def test_classes_that_are_a_point_each_are_told_apart_by_the_line_between():
    labels = (np.arange(20) % 2).astype(np.float32)
    x = np.outer(labels, [1.0, 0.0]).astype(np.float32)
    vector = made("whitened", x, labels, np.ones(20, bool))
    np.testing.assert_allclose(vector, [labels.std(ddof=1), 0], atol=1e-6)


def test_whitening_finds_the_direction_that_shared_noise_hides_from_the_means():
    random = np.random.default_rng(0)
    labels = (np.arange(1000) % 2).astype(np.float32)
    noise = 5 * random.normal(size=1000)
    x = np.column_stack([labels + noise, noise]) + 0.05 * random.normal(size=(1000, 2))
    arrays = [jnp.asarray(a) for a in (x.astype(np.float32), labels, np.arange(1000) < 500)]

    def separated(vector):
        scores = x @ np.asarray(vector)
        middle = (scores[labels == 1].mean() + scores[labels == 0].mean()) / 2
        return ((scores > middle) == (labels == 1)).mean()

    assert separated(mass_mean_vector(*arrays)) < 0.6
    assert separated(whitened_vector(*arrays)) > 0.99


def test_rows_pair_in_file_order_and_what_is_left_over_is_not_used():
    x = np.array([[1, 0], [0, 0], [9, 0], [0, 9], [5, 5]], np.float32)
    labels = np.array([1, 0, 0, 1, 1], np.float32)
    first = np.linalg.svd([[1, 0], [-9, 9]])[2][0]
    towards = np.sign(first @ mean_difference(x, labels, np.ones(5, bool)))
    expected = spread_along(x.astype(np.float64), first * towards)
    assert relative_error(made("pca", x, labels, np.ones(5, bool)), expected) <= 1e-5


def test_shuffling_keeps_the_leading_rows_counts_and_all_other_rows():
    _, labels, leading = problem()
    found = np.asarray(shuffled_labels(jnp.asarray(labels), jnp.asarray(leading)))
    other = np.asarray(shuffled_labels(jnp.asarray(labels), jnp.asarray(leading), seed=1))
    assert found[leading].sum() == labels[leading].sum()
    np.testing.assert_array_equal(found[~leading], labels[~leading])
    # Of two labels with shares p and 1 − p, 2p(1 − p) ≈ half the rows change.
    assert 0.3 < (found != labels)[leading].mean() < 0.7
    assert 0.3 < (found != other)[leading].mean() < 0.7


def test_random_vectors_have_the_norms_alone_and_each_layer_its_own_direction():
    vector = np.random.default_rng(5).normal(size=(4, 500)).astype(np.float32)
    vector[3] = 0
    drawn = random_vector(vector, seed=0)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(vector, axis=1), rtol=1e-5)
    cosines = np.corrcoef(np.concatenate([vector[:3], drawn[:3]]))[np.triu_indices(6, 1)]
    assert np.abs(cosines).max() < 0.2
    np.testing.assert_array_equal(random_vector(vector, seed=0), drawn)
    np.testing.assert_array_equal(random_vector(vector[:2], seed=0), drawn[:2])
    assert (random_vector(vector, seed=1)[:3] != drawn[:3]).all()
