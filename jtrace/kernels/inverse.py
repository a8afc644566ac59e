"""Inverse of a symmetric positive-definite matrix in float32, through its Cholesky factor. Axes: N rows."""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float

from jtrace.kernels.gram import HIGHEST

# Matrices of up to LEAF rows are factorised at once, larger ones in two halves.
LEAF = 96


def spd_inverse(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """A⁻¹, symmetric and positive semi-definite to rounding whatever the condition of A."""
    return _square(inverse_factor(a))


def inverse_factor(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Lower triangular K with KᵀK = A⁻¹, the inverse of A's Cholesky factor; NaN where A is not positive definite.

    On a CPU nearly all work is in matrix products, since LAPACK's threads and XLA's get in each other's way.
    """
    return jax.lax.platform_dependent(a, cpu=factor_by_halves, default=factor_at_once)


def factor_at_once(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """The reference: Cholesky's factor, solved for the identity."""
    return jsl.solve_triangular(jnp.linalg.cholesky(a), jnp.eye(a.shape[0], dtype=a.dtype), lower=True)


def factor_by_halves(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Factor the first half of the rows, then its Schur complement: some N³ operations."""
    n = a.shape[0]
    if n <= LEAF:
        return factor_at_once(a)
    half = n // 2
    top = factor_by_halves(a[:half, :half])
    across = _product(a[half:, :half], top.T)
    bottom = factor_by_halves(a[half:, half:] - _product(across, across.T))
    corner = -_product(bottom, _product(across, top))
    return jnp.block([[top, jnp.zeros((half, n - half), a.dtype)], [corner, bottom]])


def _square(k: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """KᵀK of a lower triangular matrix, without most products by its zeros."""
    n = k.shape[0]
    if n <= 4 * LEAF:
        return _product(k.T, k)
    half = n // 2
    low, bottom = k[half:, :half], k[half:, half:]
    across = _product(bottom.T, low)
    top = _square(k[:half, :half]) + _product(low.T, low)
    return jnp.block([[top, across.T], [across, _square(bottom)]])


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)
