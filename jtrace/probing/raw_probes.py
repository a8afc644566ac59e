"""Probes of raw residuals: the form in which they are kept and tested elsewhere.

Axes: F fits (folds of all repeats, repeats-major), L layers, D width, R repeats, N rows, S probes.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jtrace.kernels.gram import HIGHEST


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class KeptProbes:
    """The probes of one set, and what tells which of its rows each has not seen.

    Attributes:
        probes: float32 [F, L, D+1]: weights of raw residuals, then the intercept; see `raw_probe`.
        folds: which fold of a repeat each row was held out in, int16 [R, N].
        labels: 0 or 1, int8 [N]. Kept, as the statements need not be at hand when the probes are read.
    """

    probes: np.ndarray
    folds: np.ndarray
    labels: np.ndarray


def raw_probe(
    weights: Float[np.ndarray, "... D"],
    intercept: Float[np.ndarray, "..."],
    mean: Float[np.ndarray, "... D"],
    scale: Float[np.ndarray, "... D"],
) -> Float[np.ndarray, "... D+1"]:
    """A probe of standardised features → of raw ones: its weights, then its intercept, float32.

    The intercept is that at the origin, so that one array is a whole probe. It is summed in float64 for the weights as
    rounded, so what is lost is its own rounding, a shift of all rows alike by 6e-8 of it; `scores_of` adds no more.

    Args:
        scale: 0 for features that never varied; their weights are 0.
    """
    varies = scale > 0
    raw = np.where(varies, weights / np.where(varies, scale, 1), 0).astype(np.float32)
    at_origin = intercept - np.sum(raw.astype(np.float64) * mean, axis=-1)
    return np.concatenate([raw, at_origin[..., None].astype(np.float32)], axis=-1)


def scores_of(x: Float[Array | np.ndarray, "N D"], probes: Float[Array | np.ndarray, "S D+1"]) -> Float[Array, "S N"]:
    """Log-odds of label 1 by each raw probe, float32.

    Rows are centred first, so that a common offset, however large, costs no digits of what tells them apart.

    Args:
        x: residuals of one layer, bfloat16 as well.
        probes: as `raw_probe` gives them.
    """
    x = jnp.asarray(x, jnp.float32)
    centre = jnp.mean(x, axis=0)
    weights, intercepts = probes[:, :-1], probes[:, -1]
    at_centre = intercepts + jnp.matmul(weights, centre, precision=HIGHEST)
    return jnp.matmul(weights, (x - centre).T, precision=HIGHEST) + at_centre[:, None]
