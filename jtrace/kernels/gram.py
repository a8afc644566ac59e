"""Centred kernel matrices HKH in float32, H = I − 11ᵀ/n. Axes: N rows, D features."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

HIGHEST = jax.lax.Precision.HIGHEST
# Squared distances below this share of the rows' squared lengths are rounding: the rows are equal.
SMALLEST_DISTANCE = 1e-5


def centre(gram: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Computes HKH of a symmetric matrix K."""
    rows = jnp.mean(gram, axis=0)
    return gram - rows[:, None] - rows[None, :] + jnp.mean(rows)


def centre_features(x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    """Subtracts the mean over rows; twice, since the first mean of large numbers is itself rounded."""
    x = x - jnp.mean(x, axis=0)
    return x - jnp.mean(x, axis=0)


def squared_distances(x: Float[Array, "N D"]) -> Float[Array, "N N"]:
    """Computes ‖xᵢ − xⱼ‖². Features are centred first, so that a common offset costs no digits."""
    x = centre_features(x)
    norms = jnp.sum(x * x, axis=1)
    distances = jnp.maximum(norms[:, None] + norms[None, :] - 2 * linear_products(x), 0)
    return distances * (1 - jnp.eye(x.shape[0], dtype=x.dtype))


def linear_products(x: Float[Array, "N D"]) -> Float[Array, "N N"]:
    """Computes xᵢ · xⱼ, not centred."""
    return jnp.matmul(x, x.T, precision=HIGHEST)


def median_bandwidth(x: Float[Array, "N D"], rows: int = 256) -> Float[Array, ""]:
    """Returns the σ at which `gaussian_gram` is exp(−½) for the median pair: σ² D is the median squared distance.

    The median heuristic (Gretton et al. 2012, section 8), over the pairs of the first `rows` rows, which should be in
    random order. Returns 1 where the rows of the median pair are equal, as with features that never vary.
    """
    x = centre_features(x[:rows])
    above = np.triu_indices(x.shape[0], 1)
    median = jnp.median(squared_distances(x)[above])
    differ = median > SMALLEST_DISTANCE * jnp.median(jnp.sum(x * x, axis=1))
    return jnp.where(differ, jnp.sqrt(jnp.where(differ, median, 1) / x.shape[1]), 1)


def gaussian_gram(x: Float[Array, "N D"], bandwidth: float | Array) -> Float[Array, "N N"]:
    """Computes the centred kernel exp(−‖a − b‖² / (2 bandwidth² D)), with distance per feature (arXiv 2402.19465).

    It goes through expm1: centring would remove the constant 1 anyway, and a nearly constant kernel keeps its digits.
    """
    return centre(jnp.expm1(-squared_distances(x) / (2 * bandwidth**2 * x.shape[1])))


def imq_gram(x: Float[Array, "N D"], bandwidth: float | Array) -> Float[Array, "N N"]:
    """Computes the centred inverse multiquadric (1 + ‖a − b‖² / (2 bandwidth² D))^−½, through expm1 and log1p."""
    return centre(jnp.expm1(-0.5 * jnp.log1p(squared_distances(x) / (2 * bandwidth**2 * x.shape[1]))))


def linear_gram(x: Float[Array, "N D"]) -> Float[Array, "N N"]:
    """Computes the centred linear kernel: features are centred before they are multiplied."""
    return linear_products(centre_features(x))
