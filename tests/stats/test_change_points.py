"""From where on a curve stays above a line, and where its straight pieces meet: planted, found, covered."""

import numpy as np
import pytest

from jtrace.stats.change_points import change_points, onset
from tests.cases import few
from tests.curves import wandering

STEPS = np.arange(24)


def simulated(curve, size, number, seed=0):
    """The curve under independent normal errors, `number` times."""
    return curve + size * np.random.default_rng(seed).normal(size=(number, len(curve)))


def rose(at, height=0.2, count=24):
    """0.5 before a checkpoint, higher from it on."""
    return 0.5 + height * (np.arange(count) >= at)


@pytest.mark.parametrize("size", [0.005, 0.02, 0.04])
def test_an_onset_is_found_where_it_was_planted(size):
    se = np.full(24, size)
    found = [onset(STEPS, value, se, 0.5, draws=100) for value in simulated(rose(9), size, 200)]
    near = np.mean([one is not None and abs(one.index - 9) <= 1 for one in found])
    covered = np.mean([one is not None and one.low <= 9 <= one.high for one in found])
    print(f"\nonset, errors {size}: found {near:.1%}, interval covers {covered:.1%}")
    assert near >= 0.95
    # Wider than 95 % on purpose: each end is the wider one of two cases.
    assert covered >= 0.95


@pytest.mark.parametrize("shared", [False, True])
def test_the_interval_of_a_slow_onset_covers_whether_or_not_checkpoints_share_their_error(shared):
    se, slow = np.full(24, 0.02), 0.5 + 0.01 * np.maximum(STEPS - 6, 0)
    without_error = onset(STEPS, slow, se, 0.5)
    assert without_error is not None
    errors = np.random.default_rng(1).normal(size=(300, 1 if shared else 24))
    found = [onset(STEPS, slow + 0.02 * error, se, 0.5) for error in errors]
    covered = np.mean([one is not None and one.low <= without_error.index <= one.high for one in found])
    print(f"\nslow onset, errors {'shared' if shared else 'independent'}: interval covers {covered:.1%}")
    assert covered >= 0.92


def test_a_curve_on_the_line_seldom_has_an_onset():
    curves = simulated(np.full(24, 0.5), 0.02, 1000)
    false = np.mean([onset(STEPS, value, np.full(24, 0.02), 0.5, draws=1) is not None for value in curves])
    print(f"\nonset of a curve on the line: {false:.1%}")
    assert false <= 0.01


def test_one_lucky_checkpoint_is_no_onset_and_one_unlucky_one_ends_none():
    se = np.full(24, 0.01)
    lucky, unlucky, last = rose(9), rose(9), np.full(24, 0.5)
    lucky[3], unlucky[15], last[23] = 0.6, 0.5, 0.6
    assert [onset(STEPS, value, se, 0.5).index for value in (lucky, unlucky)] == [9, 9]
    assert onset(STEPS, last, se, 0.5) is None


def test_what_falls_below_the_line_again_did_not_stay_above_it():
    value = rose(4)
    value[18] = 0.4
    assert onset(STEPS, value, np.full(24, 0.01), 0.5).index == 19
    value[18:] = 0.4
    assert onset(STEPS, value, np.full(24, 0.01), 0.5) is None


def test_places_are_on_the_axis_and_the_line_may_vary():
    tokens = 1000 * 2.0 ** np.arange(6)
    found = onset(tokens, np.array([1, 2, 3, 4, 5, 6.0]), np.full(6, 0.1), np.array([3, 3, 3, 3, 3, 3.0]))
    assert (found.index, found.low, found.high) == (3, 8000, 8000)
    assert onset(tokens, np.arange(6.0), np.full(6, 0.1), np.arange(6.0) + 1) is None


def test_an_onset_that_errors_may_undo_is_open_on_the_right():
    found = onset(np.arange(4), np.array([0.5, 0.5, 0.55, 0.55]), np.full(4, 0.02), 0.5)
    assert (found.index, found.high) == (2, np.inf)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_curves_have_onsets_too_but_no_change_points(count):
    found = onset(np.arange(count), np.ones(count), np.full(count, 0.1), 0.5)
    assert found is None if count == 1 else found.index == 0
    assert change_points(np.arange(count) % 2.0) == []


def test_an_onset_is_the_same_under_the_same_seed():
    value, se = simulated(rose(9, 0.05), 0.02, 1)[0], np.full(24, 0.02)
    assert onset(STEPS, value, se, 0.5, seed=3) == onset(STEPS, value, se, 0.5, seed=3)


def bent(at, slope, count=40):
    """Flat before a checkpoint, rising from it on."""
    return 0.5 + slope * np.maximum(np.arange(count) - at, 0)


@pytest.mark.parametrize("size", few([0.02, 0.005, 0.05]))
@pytest.mark.parametrize("kind", ["jump", "bend"])
def test_one_change_is_found_where_it_was_planted(kind, size):
    curve = rose(16, 0.3, count=40) if kind == "jump" else bent(16, 0.02)
    found = [change_points(value) for value in simulated(curve, size, 200)]
    once = [changes[0] for changes in found if len(changes) == 1]
    covered = np.mean([one.low <= 16 <= one.high for one in once])
    width = np.mean([one.high - one.low for one in once])
    print(f"\n{kind}, errors {size}: one change {len(once) / 2:.1f} %, covers {covered:.1%}, width {width:.1f}")
    # A slope that the noise is five times as large as may be noise that wanders.
    assert len(once) >= (150 if (kind, size) == ("bend", 0.05) else 190)
    assert covered >= 0.91
    if kind == "jump":
        assert all(abs(one.index - 16) <= 1 for one in once)


def test_several_changes_are_found_in_order_with_their_slopes():
    curve = np.concatenate([np.zeros(10), 0.1 * np.arange(10), np.full(10, 0.2), 0.2 - 0.05 * np.arange(10)])
    changes = change_points(simulated(curve, 0.003, 1)[0])
    assert [abs(one.index - at) <= 1 for one, at in zip(changes, [10, 20, 30], strict=True)] == [True] * 3
    np.testing.assert_allclose([one.slope_before for one in changes], [0, 0.1, 0], atol=2e-3)
    np.testing.assert_allclose([one.slope_after for one in changes], [0.1, 0, -0.05], atol=2e-3)


@pytest.mark.parametrize("count", few([12, 6, 8, 20, 40, 154], 2))
def test_a_line_under_noise_seldom_has_a_change(count):
    false = np.mean([bool(change_points(value)) for value in simulated(0.1 * np.arange(count), 1.0, 200)])
    print(f"\nline of {count} checkpoints: {false:.1%} have a false change")
    assert false <= 0.05


def false_changes(curves):
    """The share of curves without a change that are given one."""
    return np.mean([bool(change_points(value)) for value in curves])


def test_noise_that_goes_on_over_neighbours_seldom_passes_for_changes():
    assert false_changes(wandering(0.9, 100, 60)) <= 0.15


@pytest.mark.statistics
@pytest.mark.parametrize("count", [6, 12, 24, 60, 154])
@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9, 1.0])
def test_rate_of_false_changes_under_autocorrelation(phi, count):
    false = false_changes(wandering(phi, 300, count))
    print(f"\nno change, {count} checkpoints, autocorrelation {phi}: {false:.1%} have a false change")
    # A random walk is the edge of what is modelled, and not told from noise that returns in the end.
    assert false <= (0.1 if phi == 1 else 0.075)


@pytest.mark.statistics
def test_a_jump_in_noise_that_goes_on_is_found_and_covered():
    curves = 8 * (np.arange(60) >= 25) + wandering(0.6, 300, 60)
    once = [changes[0] for changes in map(change_points, curves) if len(changes) == 1]
    covered = np.mean([one.low <= 25 <= one.high for one in once])
    print(f"\njump in noise of autocorrelation 0.6: one change {len(once) / 3:.1f} %, covers {covered:.1%}")
    assert len(once) >= 270
    assert covered >= 0.92


def test_a_line_has_no_change_and_rounding_is_none():
    for curve in (np.zeros(40), np.full(40, 0.7), 0.1 * np.arange(40), 1e6 + 0.1 * np.arange(40)):
        assert change_points(curve) == []
        assert change_points(curve, np.linspace(0.1, 0.2, 40)) == []


def test_a_jump_without_any_noise_has_an_interval_without_width():
    (only,) = change_points(rose(16, count=40))
    assert (only.index, only.low, only.high) == (16, 16, 16)


def test_checkpoints_known_badly_weigh_little():
    """Half the curve is measured ten times worse: unweighted, its scatter would hide the jump of the other half."""
    se = np.where(np.arange(60) < 30, 0.01, 0.3)
    curves = rose(12, 0.1, count=60) + se * np.random.default_rng(2).normal(size=(50, 60))
    found = [[[one.index for one in change_points(value, errors)] for value in curves] for errors in (se, None)]
    with_weights, without = ([12] in places and sum(12 in place for place in places) for places in found)
    assert with_weights >= 45
    assert without <= 10


def test_the_pieces_are_those_of_an_exhaustive_search():
    value = simulated(bent(7, 0.2, count=15), 0.02, 1, seed=5)[0]

    def left(start, stop):
        x = np.arange(start, stop)
        return np.sum((value[start:stop] - np.polyval(np.polyfit(x, value[start:stop], 1), x)) ** 2)

    best = min(range(3, 13), key=lambda at: left(0, at) + left(at, 15))
    assert [one.index for one in change_points(value)] == [best]
