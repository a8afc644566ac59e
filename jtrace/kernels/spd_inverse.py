"""Inverses of symmetric positive-definite matrices in float32. Axes: N rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float

from jtrace.kernels.gram import HIGHEST

# A matrix of at most LEAF rows is swept by pivots of BLOCK rows, a larger one split in two: fast to compile and to run.
LEAF, BLOCK = 512, 32
# Matrices of at most this many rows are factorised at once, larger ones in two halves.
FACTORISED = 96


def spd_inverse(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Inverts a matrix whose condition is at most some hundreds, such as a kernel with its ridge.

    On a CPU by matrix products alone, since threads of LAPACK and XLA hinder each other. At a condition of 1e5 that
    inverse has negative eigenvalues; `inverse_factor` has none.
    """
    return jax.lax.platform_dependent(a, cpu=inverse_by_blocks, default=inverse_by_cholesky)


def inverse_by_cholesky(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Inverts by a Cholesky factor and a solve for the identity: the reference."""
    return jsl.cho_solve(jsl.cho_factor(a, lower=True), jnp.eye(a.shape[0], dtype=a.dtype))


def inverse_by_blocks(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Inverts by halves, and small blocks by sweeps: some 4/3 N³ operations, nearly all in large products."""
    n = a.shape[0]
    padded = jnp.eye(-(-n // BLOCK) * BLOCK, dtype=a.dtype).at[:n, :n].set(a)
    return _blocks_by_halves(padded)[:n, :n]


def _blocks_by_halves(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Inverts through the Schur complement of the first half of the rows."""
    n = a.shape[0]
    if n <= LEAF:
        return _sweep(a, BLOCK, lambda pivot: _sweep(pivot, 1, jnp.reciprocal))
    half = n // BLOCK // 2 * BLOCK
    top = _blocks_by_halves(a[:half, :half])
    across = _product(top, a[:half, half:])
    bottom = _blocks_by_halves(a[half:, half:] - _product(a[half:, :half], across))
    corner = -_product(across, bottom)
    return jnp.block([[top - _product(corner, across.T), corner], [corner.T, bottom]])


def _sweep(a: Float[Array, "N N"], block: int, invert: Callable[[Array], Array]) -> Float[Array, "N N"]:
    """Sweeps (Gauss–Jordan) by pivots of `block` rows, in order, which serves for any positive-definite matrix."""
    n = a.shape[0]

    def sweep(i: Array, m: Array) -> Array:
        at = i * block
        columns = jax.lax.dynamic_slice(m, (0, at), (n, block))
        inverse = invert(jax.lax.dynamic_slice(m, (at, at), (block, block)))
        scaled = _product(columns, inverse)
        m = m - _product(scaled, columns.T)
        m = jax.lax.dynamic_update_slice(m, scaled, (0, at))
        m = jax.lax.dynamic_update_slice(m, scaled.T, (at, 0))
        return jax.lax.dynamic_update_slice(m, -inverse, (at, at))

    return -jax.lax.fori_loop(0, n // block, sweep, a)


def inverse_factor(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Computes the inverse K of A's Cholesky factor: lower triangular, KᵀK = A⁻¹; NaN if A is not positive definite.

    On a CPU nearly all work is in matrix products, since threads of LAPACK and XLA hinder each other.
    """
    return jax.lax.platform_dependent(a, cpu=factor_by_halves, default=factor_at_once)


def factor_at_once(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Solves the Cholesky factor for the identity: the reference."""
    return jsl.solve_triangular(jnp.linalg.cholesky(a), jnp.eye(a.shape[0], dtype=a.dtype), lower=True)


def factor_by_halves(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Factorises the first half of the rows, then its Schur complement: some N³ operations."""
    n = a.shape[0]
    if n <= FACTORISED:
        return factor_at_once(a)
    half = n // 2
    top = factor_by_halves(a[:half, :half])
    across = _product(a[half:, :half], top.T)
    bottom = factor_by_halves(a[half:, half:] - _product(across, across.T))
    corner = -_product(bottom, _product(across, top))
    return jnp.block([[top, jnp.zeros((half, n - half), a.dtype)], [corner, bottom]])


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)
