"""Feature standardisation. Axes: N rows, D features."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jtrace.kernels.gram import HIGHEST, centre_features


def standardise(x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Scales every feature to mean 0 and standard deviation 1 (ddof 1) over rows; one that never varies becomes 0."""
    # By values, not by deviations: the mean of equal numbers need not round to that number.
    varies = jnp.max(x, axis=0) > jnp.min(x, axis=0)
    centred = centre_features(x)
    std = jnp.sqrt(jnp.sum(centred * centred, axis=0) / (x.shape[0] - 1))
    usable = varies & (std > 0)
    return jnp.where(usable, centred / jnp.where(usable, std, 1), 0)


def training_scale(
    x: Float[Array, "N D"], weights: Float[Array, " N"]
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Computes mean and standard deviation (ddof 1) of features over training rows; 0 for one that never varies there.

    Args:
        weights: 1 for training rows, 0 for others; those may only repeat training rows.
    """
    count = jnp.sum(weights)
    varies = jnp.max(x, axis=0) > jnp.min(x, axis=0)
    mean = jnp.matmul(weights, x, precision=HIGHEST) / count
    # The first mean of large numbers is itself rounded.
    mean = mean + jnp.matmul(weights, x - mean, precision=HIGHEST) / count
    squares = jnp.matmul(weights, (x - mean) ** 2, precision=HIGHEST)
    return mean, jnp.where(varies, jnp.sqrt(squares / (count - 1)), 0)


def scaled(x: Float[Array, "N D"], mean: Float[Array, " D"], scale: Float[Array, " D"]) -> Float[Array, "N D"]:
    """Computes (x − mean) / scale; 0 where the scale is 0."""
    return jnp.where(scale > 0, (x - mean) / jnp.where(scale > 0, scale, 1), 0)
