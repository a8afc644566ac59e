"""Changes in a curve over checkpoints: the onset from which it stays above a line, and points where it bends or jumps.

Axes: T checkpoints in order, B draws.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import numpy as np
from jaxtyping import Float, Int, Real

from jtrace.stats.autoregression import FEWEST_IN_A_PIECE, persistence
from jtrace.stats.quantiles import Z95

FEWEST_ABOVE = 2
# −2 log(1 − √0.95): 95 % critical value of the likelihood ratio of a change point's location (Hansen 2000, table 1).
LOCATION_CRITICAL = 7.35
FEWEST_POINTS = 2 * FEWEST_IN_A_PIECE
MOST_CHANGES = 4
# A location counts as three parameters in BIC (Ninomiya 2005; Hall, Osborn and Sakkas 2013).
PARAMETERS_OF_A_CHANGE = 3
# An upper 70 % bound of the persistence: noise that is more persistent than allowed for would look like changes.
MISSED = 0.3
# Scatter around a line that is smaller than this share of the curve's largest value is rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Onset:
    """The checkpoint from which on a curve stays above a line.

    Attributes:
        index: index of the checkpoint.
        low, high: 95 % interval, as places on the axis; `high` is infinite where the onset may also never come.
    """

    index: int
    low: float
    high: float


@dataclass(frozen=True)
class ChangePoint:
    """The checkpoint where one straight piece of a curve ends and the next begins.

    Attributes:
        index: first checkpoint of the later piece; `low` and `high` are the ends of its 95 % interval, also indices.
        slope_before, slope_after: change of the value from one checkpoint to the next.
    """

    index: int
    low: int
    high: int
    slope_before: float
    slope_after: float


def onset(
    at: Real[np.ndarray, " T"],
    value: Float[np.ndarray, " T"],
    se: Float[np.ndarray, " T"],
    line: Float[np.ndarray, " T"] | float,
    seed: int = 0,
    draws: int = 400,
) -> Onset | None:
    """Finds the first checkpoint of the time above the line.

    A checkpoint is above the line if its whole 95 % interval is. The onset is the one step from "not above" to "above"
    that fits most checkpoints; of equal ones, the later. It comes after the last checkpoint whose interval lies below
    the line, and at least `FEWEST_ABOVE` checkpoints from it on are above. So a single lucky checkpoint is no onset,
    not even the last one, and a single unlucky one does not end the time above. The onset is the point where the curve
    can be told from the line: with smaller errors it is seen earlier.

    The interval is a parametric bootstrap (normal errors). Errors of checkpoints that are measured on the same
    statements are correlated to an unknown degree, so each end is the wider one of two cases: independent errors, and
    one error that all checkpoints share. The line is taken as known.

    Args:
        at: places on the axis, ascending.
        value, se: the curve and its standard errors.
        line: one value for each checkpoint, or one for all.

    Returns:
        None where the curve does not stay above the line in the end.
    """
    index = int(_first_above(value[None], se, line)[0])
    if index == len(value):
        return None
    random = np.random.default_rng(seed)
    places = np.append(at.astype(float), np.inf)
    ends = []
    for shape in ((draws, len(value)), (draws, 1)):
        drawn = _first_above(value + se * random.standard_normal(shape), se, line)
        # Both ends are checkpoints: between the last one and infinity there is nothing to interpolate.
        ends.append(places[np.quantile(drawn, [0.025, 0.975], method="nearest").astype(int)])
    low, high = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
    return Onset(index, float(min(low, at[index])), float(max(high, at[index])))


def _first_above(
    value: Float[np.ndarray, "B T"], se: Float[np.ndarray, " T"], line: Float[np.ndarray, " T"] | float
) -> Int[np.ndarray, " B"]:
    """Returns the index of the onset, or T for none."""
    count = value.shape[-1]
    above, below = value - Z95 * se > line, value + Z95 * se < line
    # Misfits of a step at 0 .. T: checkpoints above before it, plus those not above from it on.
    steps = np.cumsum(np.where(above, 1, -1), axis=-1)
    misfits = np.concatenate([np.zeros_like(steps[..., :1]), steps], axis=-1)
    after = np.max(np.where(below, np.arange(1, count + 1), 0), axis=-1)
    still = np.cumsum(above[..., ::-1], axis=-1)[..., ::-1]
    few = np.pad(still < FEWEST_ABOVE, ((0, 0), (0, 1)))  # a step at T needs none
    misfits = np.where(few | (np.arange(count + 1) < after[..., None]), count + 1, misfits)
    return count - np.argmin(misfits[..., ::-1], axis=-1)


def change_points(value: Float[np.ndarray, " T"], se: Float[np.ndarray, " T"] | None = None) -> list[ChangePoint]:
    """Finds the points where the straight pieces meet that fit a curve best.

    Pieces are lines of at least `FEWEST_IN_A_PIECE` checkpoints, each fitted by least squares (weights 1/se² where the
    errors are known); the curve may jump between them. They are lines over the order of checkpoints and not over their
    places, which mostly grow geometrically; for evenly spaced checkpoints both are the same.

    For each number of pieces the best ones are found exactly (dynamic programming). The number is chosen by BIC, with
    the size of the errors estimated, since errors that checkpoints share do not scatter. Errors are autoregressive of
    order 1, as persistent as the curve allows (`persistence`), so that a random wandering is not cut into pieces.

    The interval inverts the likelihood ratio of one location, the others held (Hansen 2000, Econometrica 68; Yao 1987).

    Args:
        value: the curve.
        se: its standard errors, > 0; only their proportions count.

    Returns:
        At most `MOST_CHANGES`, in order; none for fewer than `FEWEST_POINTS` checkpoints or a straight line.
    """
    count = len(value)
    if count < FEWEST_POINTS:
        return []
    weight = np.ones(count) if se is None else np.mean(se**2) / se**2
    x = np.arange(count) - (count - 1) / 2
    # Taking one line off changes no residual of the pieces, and sums of squares keep their digits.
    scatter = value - np.polyval(np.polyfit(x, value, 1, w=np.sqrt(weight)), x)
    size = np.abs(scatter).max()
    if size <= ROUNDING * np.abs(value).max():
        return []
    scatter = scatter / size
    phi = persistence(np.sqrt(weight) * scatter, MISSED)
    error = _segment_errors(x, scatter, weight, phi)
    starts = _best_starts(error, phi)
    inner = starts[1:-1]
    fits = [np.polyfit(x[a:b], value[a:b], 1, w=np.sqrt(weight[a:b])) for a, b in pairwise(starts)]
    total = sum(error[a, b - 1] for a, b in pairwise(starts))
    variance = max(total, ROUNDING) / max(count - 2 * (len(inner) + 1) - len(inner), 1)
    changes = []
    for number, start in enumerate(inner, 1):
        left, right = starts[number - 1], starts[number + 1]
        places = np.arange(left + FEWEST_IN_A_PIECE, right - FEWEST_IN_A_PIECE + 1)
        errors = error[left, places - 1] + error[places, right - 1]
        likely = places[errors - errors.min() <= LOCATION_CRITICAL * variance]
        low, high = min(likely.min(), start), max(likely.max(), start)
        changes.append(ChangePoint(start, int(low), int(high), float(fits[number - 1][0]), float(fits[number][0])))
    return changes


def _segment_errors(
    x: Float[np.ndarray, " T"], y: Float[np.ndarray, " T"], weight: Float[np.ndarray, " T"], phi: float
) -> Float[np.ndarray, "T T"]:
    """Computes the generalised squared error of a line through checkpoints i to j, both included; infinite for too few.

    In autoregressive noise the first checkpoint of a piece has weight 1 − φ², and each later one counts by its step
    from φ times the one before.
    """
    columns = np.sqrt(weight) * np.stack([np.ones_like(x), x, y])
    steps = columns - phi * np.roll(columns, 1, axis=1)

    def sums(one: int, other: int) -> Float[np.ndarray, "T T"]:
        total = np.cumsum(steps[one] * steps[other])
        return total - total[:, None] + (1 - phi**2) * (columns[one] * columns[other])[:, None]

    long_enough = np.arange(len(x))[None] - np.arange(len(x))[:, None] >= FEWEST_IN_A_PIECE - 1
    w, wx, wy, wxx, wxy, wyy = (sums(*pair) for pair in combinations_with_replacement(range(3), 2))
    w = np.where(long_enough, w, 1)
    spread = np.where(long_enough, wxx - wx * wx / w, 1)
    error = wyy - wy * wy / w - (wxy - wx * wy / w) ** 2 / spread
    return np.where(long_enough, np.maximum(error, 0), np.inf)


def _best_starts(error: Float[np.ndarray, "T T"], phi: float) -> list[int]:
    """Returns the starts of the pieces that BIC chooses: 0 first, and T at the end."""
    count = len(error)
    most = min(MOST_CHANGES, count // FEWEST_IN_A_PIECE - 1)
    best, last_starts = [error[0]], []
    for _ in range(most):
        # The piece that ends at j starts at i, after the best pieces of 0 to i − 1.
        before = np.append(np.inf, best[-1][:-1])[:, None] + error
        last_starts.append(np.argmin(before, axis=0))
        best.append(np.min(before, axis=0))
    coefficients = 2 * np.arange(1, most + 2)
    # With as many coefficients as checkpoints, anything fits.
    tried = coefficients < count
    coefficients, left = coefficients[tried], np.maximum([errors[-1] for errors in best], ROUNDING)[tried]
    parameters = coefficients + PARAMETERS_OF_A_CHANGE * np.arange(len(coefficients))
    # The factor keeps short curves from being cut too often (McQuarrie 1999).
    penalty = parameters * np.log(count) * count / (count - coefficients)
    # The first checkpoint of each piece says less about the noise; the determinant of the covariance accounts for that.
    penalty -= np.arange(1, len(coefficients) + 1) * np.log(1 - phi**2)
    number = int(np.argmin(count * np.log(left / count) + penalty))
    starts = [count]
    for starting in last_starts[:number][::-1]:
        starts.append(int(starting[starts[-1] - 1]))
    return [0, *starts[:0:-1], count]
