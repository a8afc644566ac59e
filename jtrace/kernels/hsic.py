"""HSIC, the dependence measure behind I(X;T) and I(Y;T): normalised, unbiased, and as a similarity (CKA).

With K a centred kernel matrix of n rows and λ = εn, R = K (K + λI)⁻¹ is symmetric with eigenvalues in [0, 1), and the
normalised HSIC of two variables is tr(R_A R_B) (Fukumizu et al. 2007; arXiv 1908.01580, eq. 5; the published code
centres one side only, which leaves the trace as it is). With λ tied to K, λ = share · tr K, R does not depend on the
kernel's scale, and tr R is below 1 / share for any n. Axes: N rows, P permutations.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jtrace.kernels.gram import HIGHEST
from jtrace.kernels.spd_inverse import spd_inverse

# Share of a matrix's squared entries that float32's rounding may leave where the result should be 0.
ROUNDING = 1e-11


def smoother(gram: Float[Array, "N N"], epsilon: float) -> Float[Array, "N N"]:
    """Computes R = K (K + εnI)⁻¹ of a centred kernel matrix, as I − λ (K + λI)⁻¹.

    Its absolute error is about float32's epsilon.
    """
    identity = jnp.eye(gram.shape[0], dtype=gram.dtype)
    ridge = epsilon * gram.shape[0]
    return identity - ridge * spd_inverse(gram + ridge * identity)


def tied_smoother(gram: Float[Array, "N N"], share: float) -> Float[Array, "N N"]:
    """Computes R = K (K + λI)⁻¹ of a centred kernel matrix, λ = share · tr K; 0 where K is 0."""
    trace = jnp.trace(gram)
    return smoother(gram / jnp.where(trace > 0, trace, 1), share / gram.shape[0])


def nhsic(smoother_a: Float[Array, "N N"], smoother_b: Float[Array, "N N"]) -> Float[Array, ""]:
    """Computes tr(R_A R_B), at least 0."""
    return jnp.maximum(jnp.sum(smoother_a * smoother_b), 0)


def permuted_nhsic(
    smoother_a: Float[Array, "N N"], smoother_b: Float[Array, "N N"], permutations: Int[Array, "P N"]
) -> Float[Array, " P"]:
    """Computes tr(R_A Π R_B Πᵀ): row i of A beside row permutation[i] of B. Reordering R needs no new solve."""
    return jax.lax.map(lambda order: nhsic(smoother_a, smoother_b[order][:, order]), permutations)


def nhsic_labels(
    smoother_t: Float[Array, "N N"], labels: Float[Array, " N"], bandwidth: float | Array, epsilon: float
) -> Float[Array, ""]:
    """Computes tr(R_Y R_T) for labels 0/1 under a Gaussian kernel.

    The centred kernel of binary labels is −2 expm1(−1 / 2σ²) ỹỹᵀ with ỹ = y − mean(y): R_Y has rank one and needs no
    solve. The result is 0 where there is one class only.
    """
    n = labels.shape[0]
    deviation = labels - jnp.mean(labels)
    length2 = jnp.sum(deviation * deviation)
    eigenvalue = -2 * jnp.expm1(-1 / (2 * bandwidth**2)) * length2
    quadratic = deviation @ jnp.sum(smoother_t * deviation[None, :], axis=1)
    along = jnp.where(length2 > 0, quadratic / jnp.where(length2 > 0, length2, 1), 0)
    return jnp.maximum(along * eigenvalue / (eigenvalue + epsilon * n), 0)


def tied_nhsic_labels(smoother_t: Float[Array, "N N"], labels: Float[Array, "P N"], share: float) -> Float[Array, " P"]:
    """Computes tr(R_Y R_T) for several labellings 0/1 by one product, λ_Y tied to the label kernel.

    That kernel is a multiple of ỹỹᵀ, ỹ = y − mean(y), so R_Y = ỹỹᵀ / |ỹ|² / (1 + share). The result is 0
    where there is one class only.
    """
    deviation = labels - jnp.mean(labels, axis=1, keepdims=True)
    length2 = jnp.sum(deviation * deviation, axis=1)
    quadratic = jnp.sum(jnp.matmul(deviation, smoother_t, precision=HIGHEST) * deviation, axis=1)
    along = jnp.where(length2 > 0, quadratic / jnp.where(length2 > 0, length2, 1), 0)
    return jnp.maximum(along / (1 + share), 0)


def unbiased_hsic(gram_a: Float[Array, "N N"], gram_b: Float[Array, "N N"]) -> Float[Array, ""]:
    """Estimates HSIC without bias (Song et al. 2012, eq. 5), for N ≥ 4; may be negative.

    It is the inner product of U-centred matrices (Székely and Rizzo 2014, eq. 2.2), which equals eq. 5 but loses no
    digits. A matrix fᵢ + fⱼ added to either side changes nothing, so grams may be centred or not.
    """
    n = gram_a.shape[0]
    return jnp.sum(_u_centred(gram_a) * _u_centred(gram_b)) / (n * (n - 3))


def debiased_cka(gram_a: Float[Array, "N N"], gram_b: Float[Array, "N N"]) -> Float[Array, ""]:
    """Computes unbiased HSIC(A, B) / √(HSIC(A, A) HSIC(B, B)), in [−1, 1]; 0 where either side never varies."""
    scale = unbiased_hsic(gram_a, gram_a) * unbiased_hsic(gram_b, gram_b)
    return jnp.where(scale > 0, unbiased_hsic(gram_a, gram_b) / jnp.sqrt(jnp.where(scale > 0, scale, 1)), 0)


def _u_centred(gram: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """U-centres a matrix: the diagonal becomes 0, and every row and column sums to 0."""
    n = gram.shape[0]
    off_diagonal = 1 - jnp.eye(n, dtype=gram.dtype)
    gram = gram * off_diagonal
    rows = jnp.sum(gram, axis=0) / (n - 2)
    centred = (gram - rows[:, None] - rows[None, :] + jnp.sum(rows) / (n - 1)) * off_diagonal
    # Where all rows but one are equal, only rounding is left, and a ratio of it would be noise.
    return jnp.where(jnp.sum(centred * centred) > ROUNDING * jnp.sum(gram * gram), centred, 0)
