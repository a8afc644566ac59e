"""97.5 % points, and the roundings that tables were made with."""

import pytest
from scipy import stats

from jtrace.stats.quantiles import NORMAL_95, Z95, normal_point, student_95


def test_the_normal_point_keeps_its_roundings():
    assert (Z95, round(normal_point(), 6)) == (1.96, 1.959964)
    assert pytest.approx(normal_point(), rel=1e-15) == NORMAL_95


def test_a_level_s_share_lies_within_the_point():
    assert stats.norm.cdf(normal_point(0.5)) - stats.norm.cdf(-normal_point(0.5)) == pytest.approx(0.5)


@pytest.mark.parametrize("degrees", [5, 15, 63])
def test_student_s_point_is_within_one_per_cent(degrees):
    assert student_95(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.01)
