"""Calibration error equals scikit-learn's, and calibrated probes are not blamed for their noise."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from jtrace.stats.bootstrap import row_weights
from jtrace.stats.calibration import calibration, calibration_gaps

ROWS = 4


def error(scores, labels, weights, bins=10):
    gaps = calibration_gaps(*(jnp.asarray(of, jnp.float32) for of in (np.atleast_2d(scores), labels, weights)), bins)
    return np.abs(np.asarray(gaps)).sum(axis=1)


@pytest.mark.parametrize("bins", [5, 10])
def test_the_error_is_that_of_scikit_learns_curve(bins):
    random = np.random.default_rng(3)
    labels, weights = random.integers(0, 2, 1000), np.array([np.ones(1000), *random.poisson(1.0, (4, 1000))])
    scores = random.normal(size=1000) + 1.5 * labels - 0.5
    chance = 1 / (1 + np.exp(-scores))
    for weight, value in zip(weights.astype(int), error(scores, labels, weights, bins), strict=True):
        drawn = np.repeat(np.arange(1000), weight)
        share, mean = calibration_curve(labels[drawn], chance[drawn], n_bins=bins)
        sizes = np.histogram(chance[drawn], np.linspace(0, 1, bins + 1))[0]
        assert value == pytest.approx(sizes[sizes > 0] @ np.abs(share - mean) / len(drawn), abs=1e-6)


def test_a_probability_on_the_edge_of_two_bins_is_in_the_lower_one():
    found = error([0.0, np.log(0.45 / 0.55)], [1, 0], np.ones((1, 2)))  # chances 0.5 and 0.45
    np.testing.assert_allclose(found, [abs(0.5 - 0.45) / 2], atol=1e-6)


def test_repeats_count_as_if_their_rows_stood_side_by_side():
    random = np.random.default_rng(4)
    labels, scores, weights = random.integers(0, 2, 200), random.normal(size=(3, 200)), random.poisson(1.0, (4, 200))
    pooled = error(scores.reshape(1, -1), np.tile(labels, 3), np.tile(weights, 3))
    np.testing.assert_allclose(error(scores, labels, weights), pooled, atol=1e-6)


def test_fewer_than_two_groups_say_nothing():
    assert calibration(np.zeros((5, 10)), 1.0) is None


def simulated(random, groups, off=0.0):
    """Log-odds and labels of groups of rows: rows of a group share score and, as often as not, label.

    Labels come from the probabilities, whose log-odds are then stretched by 1 + `off`.
    """
    score = np.repeat(random.normal(0, 1.5, groups), ROWS)
    own, of_group = random.random(groups * ROWS), np.repeat(random.random(groups), ROWS)
    drawn = np.where(random.random(groups * ROWS) < 0.5, of_group, own)
    return (1 + off) * score, drawn < 1 / (1 + np.exp(-score))


def rates(groups, sets, off=0.0):
    """How often p is 0.05 or less, how often the interval holds `truth`, and the mean excess."""
    random, members = np.random.default_rng(groups), np.repeat(np.arange(groups), ROWS)
    score, labels = simulated(random, 200_000, off)
    truth = error(score, labels, np.ones((1, len(labels)))).item() if off else 0.0
    found = []
    for seed in range(sets):
        scores, labels = simulated(random, groups, off)
        weights = jnp.concatenate([jnp.ones((1, len(labels))), row_weights(members, 1000, seed)])
        gaps = calibration_gaps(jnp.asarray(scores[None], jnp.float32), jnp.asarray(labels, jnp.float32), weights)
        found.append(calibration(np.asarray(gaps, np.float64), groups))
    blamed, held = (np.mean(of) for of in ([one.p <= 0.05 for one in found],
                                           [one.ci_low <= truth <= one.ci_high for one in found]))  # fmt: skip
    excess = np.mean([one.excess for one in found])
    print(f"\n{groups} groups, off by {off}: p <= 0.05 in {blamed:.3f}, coverage {held:.3f}, mean excess {excess:.4f}")
    return blamed, held, excess


def test_a_calibrated_probe_is_seldom_blamed_and_one_that_is_too_sure_often():
    blamed, held, excess = rates(100, 60)
    assert blamed <= 0.15
    assert held >= 0.85
    assert abs(excess) < 0.02
    assert rates(100, 60, off=1.5)[0] > 0.8


@pytest.mark.statistics
@pytest.mark.parametrize("groups", [30, 100, 500])
def test_the_p_value_and_the_interval_hold_what_they_say(groups):
    blamed, held, excess = rates(groups, 400)
    assert blamed <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert held >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5
    assert abs(excess) < 0.01
    blamed, held, _ = rates(groups, 400, off=1.0)
    assert held >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5
