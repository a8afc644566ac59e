"""Correlations of curves, and intervals that do not take a common course for a relation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from jtrace.stats.correlation import of_changes, pearson, spearman
from tests.curves import wandering

KINDS = {"pearson": pearson, "spearman": spearman, "changes": of_changes}
# Of curves over 0 .. 1 that have nothing to do with each other but that time goes on.
COURSES = {
    "none": lambda time, random: 0 * time,
    "a weak line": lambda time, random: 2 * time,
    "a line": lambda time, random: 10 * time,
    "saturating": lambda time, random: 10 * (1 - np.exp(-random.uniform(2, 10) * time)),
    "a jump at the start": lambda time, random: 10.0 * (time > 0),
    "logistic": lambda time, random: 10 / (1 + np.exp((random.uniform(0.2, 0.6) - time) * random.uniform(5, 30))),
}


def unrelated(course, phi, number, count, seed=0):
    """Pairs of curves of one kind of course, each with noise of its own."""
    random, time = np.random.default_rng(seed), np.linspace(0, 1, count)
    noise = wandering(phi, 2 * number, count, seed + 1)
    curves = noise + np.array([COURSES[course](time, random) for _ in noise])
    return zip(curves[:number], curves[number:], strict=True)


def excludes_zero(found):
    return found is not None and bool(found.ci_low > 0 or found.ci_high < 0)


def related(number, count, seed=0):
    """Two curves that rise, the second with the first one's wiggles and some of its own."""
    own = wandering(0.0, 2 * number, count, seed)
    first = 5 * np.linspace(0, 1, count) + own[:number]
    return zip(first, first + 0.7 * own[number:], strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_curves_that_both_rise_or_wander_are_not_said_to_correlate(kind):
    for course, phi in (("a line", 0.0), ("none", 1.0)):
        pairs = unrelated(course, phi, 60, 24)
        assert np.mean([excludes_zero(KINDS[kind](*pair)) for pair in pairs]) <= 0.1


@pytest.mark.statistics
@pytest.mark.parametrize("count", [6, 12, 24, 60, 154])
@pytest.mark.parametrize(
    ("course", "phi"),
    [*(("none", phi) for phi in (0.0, 0.6, 0.9, 1.0)), *((course, 0.0) for course in COURSES if course != "none"),
     ("saturating", 0.6), ("a line", 1.0)],
)  # fmt: skip
def test_rate_of_intervals_that_exclude_0_of_unrelated_curves(course, phi, count):
    pairs = list(unrelated(course, phi, 300, count))
    for kind, correlated in KINDS.items():
        false = np.mean([excludes_zero(correlated(*pair)) for pair in pairs])
        print(f"\n{kind} of unrelated curves, {count}, course: {course}, autocorrelation {phi}: {false:.1%}")
        # 5 % of 300 have a standard error of 1.3 %.
        assert false <= 0.075


@pytest.mark.statistics
@pytest.mark.parametrize(("count", "power"), [(12, 0.35), (24, 0.85), (60, 0.99)])
def test_changes_that_go_together_are_found_in_curves_that_rise(count, power):
    found = np.mean([excludes_zero(of_changes(*pair)) for pair in related(300, count)])
    print(f"\nchanges of related curves of {count} checkpoints: interval above 0 in {found:.1%}")
    assert found >= power


def test_an_interval_is_that_of_fisher_s_z_over_the_effective_number_of_pairs():
    x, noise = np.random.default_rng(1).normal(size=(2, 40))
    y = x + noise

    def autocorrelation(u):
        found = np.sum((u[1:] - u.mean()) * (u[:-1] - u.mean())) / np.sum((u - u.mean()) ** 2)
        return (40 * found + 1) / 37

    shared = autocorrelation(x) * autocorrelation(y)
    effective = 40 * min((1 - shared) / (1 + shared), 1)
    hardest = np.argmax(np.abs((x - x.mean()) * (y - y.mean())))
    r = [np.corrcoef(x, y)[0, 1], np.corrcoef(np.delete(x, hardest), np.delete(y, hardest))[0, 1]]
    found = pearson(x, y)
    assert (found.r, found.n) == (pytest.approx(r[0]), 40)
    half = 1.959964 / np.sqrt(effective - 3)
    np.testing.assert_allclose(
        np.arctanh([found.ci_low, found.ci_high]), [np.arctanh(min(r)) - half, np.arctanh(max(r)) + half], rtol=1e-6
    )


@given(st.lists(st.floats(-10, 10), min_size=4, max_size=20), st.integers(0, 9))
def test_a_correlation_lies_in_its_interval_and_that_within_one(values, seed):
    other = np.random.default_rng(seed).normal(size=len(values))
    for correlated in (pearson, spearman):
        found = correlated(other, np.array(values))
        if found is not None and not np.isnan(found.ci_low):
            assert -1 <= found.ci_low <= found.r <= found.ci_high <= 1


def test_what_never_varies_or_is_too_short_has_no_correlation():
    assert pearson(np.arange(5.0), np.ones(5)) is None
    assert pearson(np.arange(3.0), np.arange(3.0)) is None


@pytest.mark.parametrize("count", [4, 5])
def test_few_pairs_have_a_correlation_and_no_interval(count):
    found = pearson(*np.random.default_rng(0).normal(size=(2, count)))
    assert np.isfinite(found.r)
    assert np.isnan([found.ci_low, found.ci_high]).all()


def test_levels_of_curves_that_rise_have_no_interval():
    found = pearson(*(np.arange(40.0) + np.random.default_rng(0).normal(size=(2, 40))))
    assert found.r > 0.9
    assert np.isnan([found.ci_low, found.ci_high]).all()


def test_one_pair_far_out_proves_nothing():
    x, y = np.random.default_rng(3).normal(size=(2, 40))
    x[20], y[20] = 40, 40
    found = pearson(x, y)
    assert found.r > 0.9
    assert found.ci_low < 0


@given(st.lists(st.integers(0, 6), min_size=5, max_size=20), st.randoms(use_true_random=False))
def test_pearson_and_spearman_equal_scipy_s_ties_included(values, random):
    x, y = np.array(values, float), np.array([value + random.randint(0, 6) for value in values], float)
    if np.ptp(x) and np.ptp(y):
        assert pearson(x, y).r == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert spearman(x, y).r == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("correlated", [pearson, spearman])
def test_intervals_of_pairs_without_a_course_cover(correlated):
    r = 0.6
    # Of two normal variables.
    true = r if correlated is pearson else 6 / np.pi * np.arcsin(r / 2)
    draws = np.random.default_rng(0).multivariate_normal([0, 0], [[1, r], [r, 1]], size=(600, 30))
    found = [correlated(pair[:, 0], pair[:, 1]) for pair in draws]
    given_ = [one for one in found if not np.isnan(one.ci_low)]
    covered = np.mean([one.ci_low <= true <= one.ci_high for one in given_])
    print(f"\n{correlated.__name__} of 30 pairs: interval in {len(given_) / 6:.1f} %, covers {covered:.1%}")
    # Either side is taken for a trend in 5 %.
    assert len(given_) >= 500
    # More than 95 %, as it holds without the pair that pulls hardest too.
    assert covered >= 0.93


def test_changes_of_curves_that_rise_correlate_only_where_they_move_together():
    noise = np.random.default_rng(0).normal(size=(2, 40))
    rising, also = np.arange(40.0) + noise
    changes = of_changes(rising, also)
    assert changes.ci_low < 0 < changes.ci_high
    assert changes.n == 39
    together = np.arange(40.0) + noise[0] + 0.3 * noise[1]
    assert of_changes(rising, together).ci_low > 0.5


def test_a_straight_line_has_no_changes_to_correlate():
    wavy = np.sin(np.arange(20.0))
    assert of_changes(0.1 * np.arange(20.0), wavy) is None
    assert of_changes(wavy, np.ones(20)) is None
    assert of_changes(wavy[:4], wavy[:4]) is None
    assert of_changes(wavy[:1], wavy[:1]) is None
