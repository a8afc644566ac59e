"""Noise that goes on: how much it does is found without bias in short curves, and its draws are as they are said."""

import numpy as np
import pytest

from jtrace.stats.autoregression import noise, persistence


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_draws_have_their_autocorrelation_and_second_differences_of_white_noise(phi):
    drawn = noise(phi, (4000, 30), np.random.default_rng(0))
    assert np.corrcoef(drawn[:, 10], drawn[:, 11])[0, 1] == pytest.approx(phi, abs=0.05)
    assert np.diff(drawn, 2).var() == pytest.approx(6, rel=0.03)
    # Stationary from the first place on.
    assert drawn[:, 0].var() == pytest.approx(drawn[:, -1].var(), rel=0.1)


@pytest.mark.parametrize(("phi", "least"), [(0.0, 0.0), (0.6, 0.4), (0.9, 0.8)])
def test_half_of_long_curves_are_at_most_as_persistent_as_is_found(phi, least):
    found = [persistence(value, missed=0.5) for value in noise(phi, (200, 60), np.random.default_rng(1))]
    assert least <= np.median(found) <= phi + 0.1
    assert np.mean([one >= phi for one in found]) >= 0.4


@pytest.mark.parametrize("count", [6, 12, 24])
def test_few_curves_are_more_persistent_than_a_cautious_bound_however_short(count):
    found = [persistence(value, missed=0.1) for value in noise(0.9, (200, count), np.random.default_rng(2))]
    # 10 %, and 2.1 % of sampling.
    assert np.mean([one < 0.9 for one in found]) <= 0.16


def test_a_jump_and_a_bend_are_no_persistence():
    place = np.arange(40)
    for curve in (5.0 * (place >= 16), 0.5 * np.maximum(place - 16, 0)):
        found = [persistence(curve + value, 0.5) for value in noise(0.0, (100, 40), np.random.default_rng(3))]
        assert np.median(found) <= 0.2
