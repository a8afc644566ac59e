"""Steering vectors. Axes: N rows, D width."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jtrace.kernels.gram import centre_features

HOW_MADE = "mean of label 1 minus mean of label 0, normalised, times the std (ddof 1) of all rows' projections on it"


def mass_mean_vector(
    x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]
) -> Float[Array, " D"]:
    """The published steering vector (arXiv 2402.19465, section 3): it points towards label 1, whatever 1 means.

    Args:
        x: raw residuals of one layer, not standardised.
        labels: 0 or 1.
        leading: the rows that the class means are taken over; the projections' spread is that of all rows.

    Returns:
        The unit difference of the class means times the standard deviation of the projections on it; 0 where the
        means agree.
    """
    x = centre_features(x)
    one, zero = leading * labels, leading * (1 - labels)
    # Means as sums of centred rows: no large common offset to cancel.
    difference = jnp.sum(one[:, None] * x, axis=0) / jnp.sum(one) - jnp.sum(zero[:, None] * x, axis=0) / jnp.sum(zero)
    length = jnp.sqrt(jnp.sum(difference * difference))
    direction = jnp.where(length > 0, difference / jnp.where(length > 0, length, 1), 0)
    projections = jnp.sum(x * direction, axis=1)
    return direction * jnp.std(projections, ddof=1)
