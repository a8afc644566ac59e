"""Kernel matrices, normalised and unbiased HSIC in float32 against plain float64 linear algebra."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.gram import centre, gaussian_gram, imq_gram, linear_gram
from jtrace.kernels.hsic import (
    debiased_cka,
    nhsic,
    nhsic_labels,
    permuted_nhsic,
    smoother,
    tied_nhsic_labels,
    tied_smoother,
    unbiased_hsic,
)
from jtrace.kernels.standardise import standardise
from jtrace.probing.information import PAPER_BANDWIDTH, PAPER_EPSILON, paper_information, paper_smoother
from tests.bars import within
from tests.cases import few

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


# The inverse's loops compile anew at each call outside of a compiled function.
compiled_paper_smoother = jax.jit(paper_smoother)

KINDS = ["related", "independent", "constant features", "outlier", "low rank", "far from zero"]


@pytest.mark.parametrize("shape", few(map(pytest.param, [(40, 300), (40, 7), (300, 40), (5, 3)])))
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
        smoother_t = np.asarray(compiled_paper_smoother(t))
        assert np.sum(np.asarray(compiled_paper_smoother(x)) * smoother_t) >= 0
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


@pytest.mark.slow
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


SHARE = 1 / 40
gaussian_smoother = jax.jit(lambda x, bandwidth: tied_smoother(gaussian_gram(x, bandwidth), SHARE))


def reference_tied_smoother(gram, share=SHARE):
    """K (K + share · tr K · I)⁻¹ of HKH, by an explicit inverse in float64."""
    n = len(gram)
    centring = np.eye(n) - 1 / n
    gram = centring @ gram @ centring
    return gram @ np.linalg.inv(gram + share * np.trace(gram) * np.eye(n))


def quadruples_hsic(gram_a, gram_b):
    """HSIC as what it is: the mean of k_ij (l_ij + l_qr − 2 l_iq) over all different i, j, q, r."""
    each = permutations(range(len(gram_a)), 4)
    return np.mean([gram_a[i, j] * (gram_b[i, j] + gram_b[q, r] - 2 * gram_b[i, q]) for i, j, q, r in each])


def song_hsic(gram_a, gram_b):
    """Song et al. 2012, eq. 5, term by term in float64."""
    n = len(gram_a)
    a, b = (gram - np.diag(np.diag(gram)) for gram in (gram_a, gram_b))
    cross = a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b).sum()
    return (np.trace(a @ b) + cross) / (n * (n - 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bandwidth", [0.5, 1.4, PAPER_BANDWIDTH])
def test_the_tied_smoother_meets_the_bar_at_any_bandwidth(kind, bandwidth):
    x, t, labels = data(60, 9, kind)
    a, b = (gaussian_smoother(v, bandwidth) for v in (x, t))
    exact_a, exact_b = (reference_tied_smoother(reference_gram(v, bandwidth)) for v in (x, t))
    xt, yt = np.sum(exact_a * exact_b), np.sum(reference_tied_smoother(np.outer(labels, labels)) * exact_b)
    within("tied nHSIC I(X;T), float32 against float64", abs(nhsic(a, b) - xt) / xt, TOLERANCE)
    found = tied_nhsic_labels(b, jnp.asarray(labels)[None], SHARE)[0]
    within("tied nHSIC I(Y;T), float32 against float64", abs(found - yt) / yt, TOLERANCE)


@pytest.mark.parametrize("n", [50, 100, 200])
def test_a_tied_ridge_lets_through_the_same_few_directions_whatever_the_scale_and_the_number_of_rows(n):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(n, 300)), jnp.float32)
    of_gram = jax.jit(lambda gram: tied_smoother(gram, SHARE))
    tied = of_gram(linear_gram(x))
    np.testing.assert_allclose(of_gram(1e4 * linear_gram(x)), tied, atol=1e-5)
    assert 0.3 / SHARE < jnp.trace(tied) < 1 / SHARE


@pytest.mark.slow
def test_at_the_published_bandwidth_the_tied_ridge_is_the_published_one():
    x, t, _ = data(200, 50, "related")
    grams = [gaussian_gram(jnp.asarray(v), PAPER_BANDWIDTH) for v in (x, t)]
    published = nhsic(*(smoother(gram, PAPER_EPSILON) for gram in grams))
    assert nhsic(*(tied_smoother(gram, SHARE) for gram in grams)) == pytest.approx(float(published), rel=1e-2)


def test_permuted_rows_give_what_a_solve_of_the_permuted_rows_gives():
    x, t, labels = data(30, 4, "related")
    orders = np.stack([np.random.default_rng(i).permutation(30) for i in range(5)])
    a, b = (gaussian_smoother(v, 1.0) for v in (x, t))
    again = [gaussian_smoother(t[order], 1.0) for order in orders]
    found = permuted_nhsic(a, b, jnp.asarray(orders))
    np.testing.assert_allclose(found, [nhsic(a, other) for other in again], rtol=1e-4)
    found = tied_nhsic_labels(b, jnp.asarray(labels[orders]), SHARE)
    one_by_one = [tied_nhsic_labels(b, jnp.asarray(labels[order])[None], SHARE)[0] for order in orders]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_unbiased_hsic_is_the_mean_over_all_quadruples(kind):
    x, t, _ = data(6, 3, kind)
    a, b = (reference_gram(v, 1.0) for v in (x, t))
    found = unbiased_hsic(gaussian_gram(jnp.asarray(x), 1.0), gaussian_gram(jnp.asarray(t), 1.0))
    assert found == pytest.approx(quadruples_hsic(a, b), rel=TOLERANCE, abs=1e-7)


@pytest.mark.parametrize("bandwidth", [1.0, PAPER_BANDWIDTH])
def test_unbiased_hsic_and_cka_meet_equation_five_even_where_the_kernel_is_nearly_constant(bandwidth):
    x, t, _ = data(100, 8, "related")
    a, b = (reference_gram(v, bandwidth) for v in (x, t))
    found = [gaussian_gram(jnp.asarray(v), bandwidth) for v in (x, t)]
    exact = song_hsic(a, b)
    within("unbiased HSIC, float32 against float64", abs(unbiased_hsic(*found) - exact) / exact, TOLERANCE)
    similarity = exact / np.sqrt(song_hsic(a, a) * song_hsic(b, b))
    within("debiased CKA, float32 against float64", abs(debiased_cka(*found) - similarity) / similarity, TOLERANCE)


def test_centring_a_kernel_leaves_unbiased_hsic_as_it_is():
    x, t, _ = data(40, 4, "related")
    a, b = (jnp.asarray(reference_gram(v, 1.0), jnp.float32) for v in (x, t))
    assert unbiased_hsic(centre(a), b) == pytest.approx(float(unbiased_hsic(a, b)), rel=1e-4)
    assert unbiased_hsic(centre(a), centre(b)) == pytest.approx(float(unbiased_hsic(a, b)), rel=1e-4)


def test_a_kernel_is_wholly_similar_to_itself_and_to_none_that_never_varies():
    x, _, _ = data(40, 4, "related")
    a = gaussian_gram(jnp.asarray(x), 1.0)
    assert debiased_cka(a, 3 * a) == pytest.approx(1, rel=1e-5)
    assert debiased_cka(a, jnp.zeros((40, 40))) == 0
    # One row apart from equal ones: no pair of the others tells anything.
    apart = gaussian_gram(jnp.zeros((40, 4)).at[0].set(1), 1.0)
    assert debiased_cka(a, apart) == 0
    assert debiased_cka(apart, apart) == 0


def test_under_independence_the_unbiased_estimates_are_zero_on_average_and_the_biased_one_is_not():
    @jax.jit
    @jax.vmap
    def estimates(x, t):
        a, b = gaussian_gram(x, 1.0), gaussian_gram(t, 1.0)
        return unbiased_hsic(a, b), debiased_cka(a, b), jnp.sum(a * b) / 30**2

    random = np.random.default_rng(0)
    found = estimates(*(jnp.asarray(random.normal(size=(400, 30, 3)), jnp.float32) for _ in "xt"))
    hsic, cka, biased = (np.mean(v) / (np.std(v) / np.sqrt(400)) for v in found)
    assert abs(hsic) < 4
    assert abs(cka) < 4
    assert biased > 40
