"""Feature standardisation. Axes: N rows, D features."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jtrace.kernels.gram import centre_features


def standardise(x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Every feature to mean 0 and standard deviation 1 (ddof 1) over the rows; one that never varies becomes 0."""
    # Compared by value: the mean of equal numbers need not round back to that number.
    varies = jnp.max(x, axis=0) > jnp.min(x, axis=0)
    centred = centre_features(x)
    std = jnp.sqrt(jnp.sum(centred * centred, axis=0) / (x.shape[0] - 1))
    usable = varies & (std > 0)
    return jnp.where(usable, centred / jnp.where(usable, std, 1), 0)
