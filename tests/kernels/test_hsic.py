"""Kernel matrices and normalised HSIC in float32 against plain float64 linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.information import PAPER_BANDWIDTH, PAPER_EPSILON, paper_information, paper_smoother
from jtrace.kernels.gram import gaussian_gram, imq_gram, linear_gram
from jtrace.kernels.hsic import nhsic, nhsic_labels, smoother
from jtrace.kernels.standardise import standardise
from tests.bars import within

TOLERANCE = 5e-4  # relative, the bar for float32 against float64


def reference_gram(x, bandwidth=PAPER_BANDWIDTH):
    x = np.asarray(x, np.float64)
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.exp(-squared / (2 * bandwidth**2 * x.shape[1]))


def reference_nhsic(gram_a, gram_b, epsilon=PAPER_EPSILON):
    """As published: K centred on one side, an explicit inverse; in float64."""
    n = len(gram_a)
    centring = np.eye(n) - 1 / n
    a, b = gram_a @ centring, gram_b @ centring
    smoothed = [k @ np.linalg.inv(k + epsilon * n * np.eye(n)) for k in (a, b)]
    return np.trace(smoothed[0] @ smoothed[1])


def standardised(x):
    return np.asarray(standardise(jnp.asarray(x, jnp.float32)))


def data(n, d, kind, seed=0):
    """Standardised X, T and binary labels of one of several kinds."""
    random = np.random.default_rng(seed)
    labels = (random.random(n) < 0.4).astype(np.float32)
    x = random.normal(size=(n, d))
    match kind:
        case "related":
            t = x @ random.normal(size=(d, d)) / np.sqrt(d) + 0.5 * labels[:, None]
        case "independent":
            t = random.normal(size=(n, d))
        case "constant features":
            t = x.copy()
            t[:, ::2] = 0.1
        case "outlier":
            t = x.copy()
            t[0] *= 1e4
        case "low rank":
            t = x[:, :1] @ random.normal(size=(1, d))
        case "far from zero":
            t = x + 1e4
    return standardised(x), standardised(t), labels


KINDS = ["related", "independent", "constant features", "outlier", "low rank", "far from zero"]


@pytest.mark.parametrize("shape", [(40, 7), (40, 300), (300, 40), (5, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_both_estimates_meet_the_bar(shape, kind):
    x, t, labels = data(*shape, kind)
    found = paper_information(paper_smoother(jnp.asarray(x)), jnp.asarray(t), jnp.asarray(labels))
    gram_t = reference_gram(t)
    xt = reference_nhsic(reference_gram(x), gram_t)
    yt = reference_nhsic(reference_gram(labels[:, None]), gram_t)
    within("nHSIC I(X;T), float32 against float64", abs(found.xt - xt) / xt, TOLERANCE)
    within("nHSIC I(Y;T), float32 against float64", abs(found.yt - yt) / yt, TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_never_negative(kind):
    """Not even before the clamp: the sum of products itself, and the label's quadratic form."""
    for seed in range(20):
        x, t, labels = data(30, 4, kind, seed)
        smoother_t = np.asarray(paper_smoother(jnp.asarray(t)))
        assert np.sum(np.asarray(paper_smoother(jnp.asarray(x))) * smoother_t) >= 0
        deviation = labels - labels.mean()
        assert deviation @ smoother_t @ deviation >= 0


def test_a_representation_that_never_varies_carries_no_information():
    x, _, labels = data(30, 4, "related")
    found = paper_information(paper_smoother(jnp.asarray(x)), jnp.zeros((30, 4)), jnp.asarray(labels))
    assert found.xt == 0
    assert found.yt == 0


def test_one_class_has_no_label_information():
    x, _, _ = data(30, 4, "related")
    assert nhsic_labels(paper_smoother(jnp.asarray(x)), jnp.ones(30), PAPER_BANDWIDTH, PAPER_EPSILON) == 0


def test_nhsic_is_symmetric_and_blind_to_rotation_and_order():
    x, t, _ = data(60, 6, "related")
    a, b = (smoother(gaussian_gram(jnp.asarray(v), 1.0), 1e-3) for v in (x, t))
    assert nhsic(a, b) == pytest.approx(float(nhsic(b, a)), rel=1e-6)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].astype(np.float32)
    rotated = smoother(gaussian_gram(jnp.asarray(x @ rotation), 1.0), 1e-3)
    assert nhsic(rotated, b) == pytest.approx(float(nhsic(a, b)), rel=1e-4)
    order = np.random.default_rng(1).permutation(60)
    assert nhsic(a[order][:, order], b[order][:, order]) == pytest.approx(float(nhsic(a, b)), rel=1e-5)


def test_smoother_eigenvalues_lie_between_zero_and_one():
    x, _, _ = data(60, 6, "related")
    values = np.linalg.eigvalsh(np.asarray(smoother(gaussian_gram(jnp.asarray(x), 1.0), 1e-3), np.float64))
    assert values.min() > -1e-5
    assert values.max() < 1


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_grams_equal_float64_and_a_common_offset_costs_no_digits(offset):
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) + np.float32(offset)
    exact = np.asarray(x, np.float64)
    squared = ((exact[:, None] - exact[None]) ** 2).sum(-1)
    centring = np.eye(50) - 1 / 50
    for found, kernel in (
        (gaussian_gram(jnp.asarray(x), 50.0), np.exp(-squared / (2 * 50.0**2 * 8))),
        (imq_gram(jnp.asarray(x), 50.0), (1 + squared / (2 * 50.0**2 * 8)) ** -0.5),
        (linear_gram(jnp.asarray(x)), (exact - exact.mean(0)) @ (exact - exact.mean(0)).T),
    ):
        expected = centring @ kernel @ centring
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_standardise_uses_ddof_one_and_zeroes_what_never_varies():
    x = np.random.default_rng(0).normal(3.0, 2.0, (7, 3)).astype(np.float32)
    x[:, 1] = 0.1  # whose float32 mean over 7 rows is not 0.1
    expected = (x - x.mean(0)) / np.where(x.std(0) > 1e-6, x.std(0, ddof=1), np.inf)
    np.testing.assert_allclose(jax.jit(standardise)(x), expected, atol=2e-6)


@pytest.mark.parametrize(("n", "constant"), [(7, 0.1), (100, 1e4 + 0.1), (397, -0.0073)])
def test_a_constant_becomes_zero_even_where_its_mean_is_rounded(n, constant):
    np.testing.assert_array_equal(standardise(jnp.full((n, 1), constant, jnp.float32)), np.zeros((n, 1)))
