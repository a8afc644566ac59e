"""Fitting, then compression: a planted peak is found and covered, and what never turns is not called a turn."""

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from jtrace.stats.unimodal import turn
from tests.cases import few
from tests.curves import wandering

PLACES = np.arange(24) / 23
NEVER = {
    "flat": 0 * PLACES,
    "rising": 4 * PLACES,
    "rising to a plateau": np.minimum(12 * PLACES, 3),
    "saturating": 20 * (1 - np.exp(-8 * PLACES)),
    "falling": -4 * PLACES,
}


def simulated(curve, number, seed=0):
    """The curve under independent normal errors of size 1, `number` times."""
    return curve + np.random.default_rng(seed).normal(size=(number, len(curve)))


def turning(peak, height, count=24):
    """Up to a peak, then down to a third of its height."""
    return np.interp(np.arange(count), [0, peak, count - 1], [0, height, height / 3])


@pytest.mark.parametrize("known", [pytest.param(False, marks=pytest.mark.statistics), True])
@pytest.mark.parametrize("name", few(NEVER))
def test_what_never_turns_seldom_has_a_small_p(name, known):
    se = np.ones(24) if known else None
    p = np.array([turn(value, se, draws=99).p for value in simulated(NEVER[name], 200)])
    share, errors = np.mean(p <= 0.05), "known" if known else "estimated"
    print(f"\n{name}, errors {errors}: p <= 0.05 in {share:.1%}, mean {p.mean():.2f}")
    assert share <= 0.07
    assert p.mean() >= 0.5


def false_turns(curves):
    """The share of curves that never turn whose p says that they do."""
    return np.mean([turn(value, draws=99).p <= 0.05 for value in curves])


def test_noise_that_goes_on_over_neighbours_seldom_passes_for_a_turn():
    assert false_turns(wandering(0.9, 60, 24)) <= 0.1


@pytest.mark.statistics
@pytest.mark.parametrize("count", [6, 12, 24, 60])
@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9, 1.0])
def test_rate_of_false_turns_under_autocorrelation(phi, count):
    false = false_turns(wandering(phi, 300, count))
    print(f"\nno turn, {count} checkpoints, autocorrelation {phi}: p <= 0.05 in {false:.1%}")
    # 5 % of 300 have a standard error of 1.3 %.
    assert false <= 0.075


@pytest.mark.statistics
@pytest.mark.parametrize("phi", [0.6, 0.9, 1.0])
@pytest.mark.parametrize("name", ["rising to a plateau", "saturating", "falling"])
def test_rate_of_false_turns_around_a_course_that_never_turns(name, phi):
    false = false_turns(NEVER[name] + wandering(phi, 300, 24))
    print(f"\n{name}, autocorrelation {phi}: p <= 0.05 in {false:.1%}")
    assert false <= 0.075


@pytest.mark.parametrize("height", few([12, 6, 30]))
def test_a_planted_peak_is_found_and_covered(height):
    found = [turn(value, draws=99) for value in simulated(turning(14, height), 150)]
    power = np.mean([one.p <= 0.05 for one in found])
    covered = np.mean([one.low <= 14 <= one.high for one in found])
    off = np.mean([abs(one.index - 14) for one in found])
    print(f"\npeak of {height} errors: p <= 0.05 in {power:.1%}, covered {covered:.1%}, off by {off:.1f} checkpoints")
    # That the noise is white has to be seen as well.
    assert power >= {6: 0.4, 12: 0.9, 30: 0.98}[height]
    assert off <= {6: 1.5, 12: 1.0, 30: 0.5}[height]
    assert covered >= 0.91


def test_rise_and_fall_are_the_fit_s():
    found = turn(turning(14, 30) + np.tile([0.01, -0.01], 12), draws=19)
    assert found.index == 14
    np.testing.assert_allclose([found.rise, found.fall], [30, 20], atol=0.1)


def test_a_curve_that_falls_throughout_peaks_at_its_first_checkpoint():
    found = turn(-turning(23, 30) + np.tile([0.01, -0.01], 12), draws=19)
    assert found.index <= 1
    assert found.rise <= 0.1
    assert found.p >= 0.5


def test_a_dip_is_no_turn():
    assert np.mean([turn(value, draws=99).p <= 0.05 for value in simulated(-turning(12, 12), 50)]) <= 0.07


def test_errors_that_are_known_to_be_large_make_the_test_cautious():
    value = simulated(turning(14, 12), 1)[0]
    assert turn(value, np.full(24, 1.0)).p <= 0.05
    assert turn(value, np.full(24, 10.0)).p > 0.5


def test_checkpoints_known_badly_weigh_little():
    """One checkpoint stands out, and is known to be off by as much."""
    value, se = simulated(3 * np.ones(24), 1)[0], np.ones(24)
    value[10], se[10] = 30, 30
    assert turn(value).index == 10
    assert turn(value, se).p > 0.2


def test_the_peak_is_that_of_an_exhaustive_search():
    def left(value, peak):
        """Squares that the best fit leaves that rises to a checkpoint and falls from it on, the checkpoint in both."""
        up = isotonic_regression(value[: peak + 1]).x
        down = isotonic_regression(value[peak:], increasing=False).x
        fit = np.concatenate([up[:-1], [max(up[-1], down[0])], down[1:]])
        return np.sum((fit - value) ** 2)

    for value in simulated(turning(5, 3, count=12), 50):
        best = min(range(12), key=lambda peak: left(value, peak))
        assert left(value, turn(value, draws=1).index) == pytest.approx(left(value, best))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_short_curves_have_no_turn(count):
    assert turn(turning(count // 2, 3, count) if count > 1 else np.ones(1)) is None


def test_a_curve_without_scatter_has_none_and_one_with_known_errors_a_large_p():
    for curve in (np.zeros(24), np.full(24, 0.7), 0.1 * np.arange(24)):
        assert turn(curve) is None
        assert turn(curve, np.full(24, 0.1)).p > 0.9


def test_a_turn_is_the_same_under_the_same_seed():
    value = simulated(turning(14, 3), 1)[0]
    assert turn(value, seed=3) == turn(value, seed=3)
