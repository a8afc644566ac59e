"""Normalised HSIC, the dependence measure behind I(X;T) and I(Y;T).

With K a centred kernel matrix of n rows and λ = εn, R = K (K + λI)⁻¹ is symmetric with eigenvalues in [0, 1), and the
normalised HSIC of two variables is tr(R_A R_B) (Fukumizu et al. 2007; arXiv 1908.01580, eq. 5; the published code
centres one side only, which leaves the trace as it is). Axes: N rows.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jtrace.kernels.inverse import spd_inverse


def smoother(gram: Float[Array, "N N"], epsilon: float) -> Float[Array, "N N"]:
    """R = K (K + εnI)⁻¹ of a centred kernel matrix, as I − λ (K + λI)⁻¹; good to float32's rounding of 1."""
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    ridge = epsilon * gram.shape[0]
    return identity - ridge * spd_inverse(gram + ridge * identity)


def nhsic(smoother_a: Float[Array, "N N"], smoother_b: Float[Array, "N N"]) -> Float[Array, ""]:
    """tr(R_A R_B), at least 0."""
    return jnp.maximum(jnp.sum(smoother_a * smoother_b), 0)


def nhsic_labels(
    smoother_t: Float[Array, "N N"], labels: Float[Array, " N"], bandwidth: float | Array, epsilon: float
) -> Float[Array, ""]:
    """tr(R_Y R_T) for labels 0/1 under a Gaussian kernel.

    The centred kernel of binary labels is −2 expm1(−1 / 2σ²) ỹỹᵀ with ỹ = y − mean(y): R_Y has rank one and needs no
    solve. 0 where there is one class only.
    """
    n = labels.shape[0]
    deviation = labels - jnp.mean(labels)
    length2 = jnp.sum(deviation * deviation)
    eigenvalue = -2 * jnp.expm1(-1 / (2 * bandwidth**2)) * length2
    quadratic = deviation @ jnp.sum(smoother_t * deviation[None, :], axis=1)
    along = jnp.where(length2 > 0, quadratic / jnp.where(length2 > 0, length2, 1), 0)
    return jnp.maximum(along * eigenvalue / (eigenvalue + epsilon * n), 0)
