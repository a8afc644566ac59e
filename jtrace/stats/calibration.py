"""Calibration of held-out probabilities: their expected error, and the share of it that is noise.

The error of a calibrated probe is not 0, as bins of few rows deviate by chance. That chance is measured by what
bootstrap draws of whole groups do to the gap of each bin, so rows of a group may depend on each other in any way.
Axes: R repeats of the cross-validation, N rows, B weightings (the first are ones), K bins.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jtrace.kernels.gram import HIGHEST
from jtrace.stats.bootstrap import stretch
from jtrace.stats.quantiles import LEVEL


class Calibration(NamedTuple):
    """Expected calibration error of held-out probabilities.

    Attributes:
        error: Σ over bins of |share of label 1 − mean probability| · share of rows (Naeini et al. 2015, eq. 3),
            noise included.
        ci_low, ci_high: the error ± the 95th percentile of noise. By the triangle inequality, in at least 95 % of
            cases they hold the error of infinitely many groups. `ci_low` is 0 where the probe may be calibrated.
        excess: the error less its mean for calibrated probabilities.
        p: probability of an error at least that large for calibrated probabilities.
    """

    error: float
    ci_low: float
    ci_high: float
    excess: float
    p: float


@partial(jax.jit, static_argnames="bins")
def calibration_gaps(
    scores: Float[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"], bins: int = 10
) -> Float[Array, "B K"]:
    """Computes each bin's rows with label 1 less its sum of probabilities, as a share of all rows.

    Bins of the probability of label 1 are of equal width, each with its upper end.

    Args:
        scores: log-odds of label 1.
    """
    chance = jax.nn.sigmoid(scores)
    bin_of = jnp.searchsorted(jnp.linspace(0, 1, bins + 1)[1:-1], chance)
    gaps = jax.nn.one_hot(bin_of, bins) * (labels - chance)[..., None]
    return jnp.dot(weights, gaps.mean(axis=0), precision=HIGHEST) / weights.sum(axis=1)[:, None]


def calibration(gaps: Float[np.ndarray, "B K"], groups: float | int) -> Calibration | None:
    """Computes the calibration error with its interval, excess and p-value.

    Args:
        gaps: result of `calibration_gaps`.
        groups: effective number of groups.

    Returns:
        None for fewer than two groups.
    """
    if groups < 2:
        return None
    error = float(np.abs(gaps[0]).sum())
    noise = np.abs(gaps[1:] - gaps[0]).sum(axis=1) * stretch(groups)
    room = float(np.quantile(noise, LEVEL))
    p = float((1 + (noise >= error).sum()) / (1 + len(noise)))
    return Calibration(error, max(error - room, 0.0), min(error + room, 1.0), error - float(noise.mean()), p)
