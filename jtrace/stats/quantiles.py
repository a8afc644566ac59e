"""97.5 % points behind 95 % intervals, all of them.

One point stands here in several roundings, as numbers in tables are made of each and keep their bits: to two digits
(`Z95`) in onsets, turns and reversed probes, to six in `student_95`, which intervals of information are made of, and to
the last bit in bootstrap intervals (`normal_point`) and in correlations (`NORMAL_95`, whose last bit is another).
"""

from statistics import NormalDist

from scipy.stats import norm

LEVEL = 0.95


def normal_point(level: float = LEVEL) -> float:
    """Half the width, in standard errors, of a normal interval of this level."""
    return float(norm.ppf((1 + level) / 2))


Z95 = round(normal_point(), 2)
NORMAL_95 = NormalDist().inv_cdf((1 + LEVEL) / 2)


def student_95(degrees: int) -> float:
    """97.5 % point of Student's t, within 1 % from 5 degrees of freedom on (Abramowitz and Stegun 26.7.5)."""
    z = round(normal_point(), 6)
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
