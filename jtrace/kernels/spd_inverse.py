"""Inverses of symmetric positive-definite matrices in float32. Axes: N rows."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float

from jtrace.kernels.gram import HIGHEST

# Up to LEAF rows a matrix is swept by pivots of BLOCK rows, above it is split in two: short to compile, fast to run.
LEAF, BLOCK = 512, 32
# Matrices of up to so many rows are factorised at once, larger ones in two halves.
FACTORISED = 96


def spd_inverse(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """A⁻¹ of a matrix whose condition is some hundreds at most, as of kernels with their ridge.

    By matrix products alone on a CPU, where LAPACK's threads and XLA's get in each other's way. At a condition of 1e5
    it has negative eigenvalues there; `inverse_factor` has none.
    """
    return jax.lax.platform_dependent(a, cpu=inverse_by_blocks, default=inverse_by_cholesky)


def inverse_by_cholesky(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """The reference: factorise, solve for the identity."""
    return jsl.cho_solve(jsl.cho_factor(a, lower=True), jnp.eye(a.shape[0], dtype=a.dtype))


def inverse_by_blocks(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Block sweeps below two by two blocks: some 4/3 N³ operations, nearly all in large products."""
    n = a.shape[0]
    padded = jnp.eye(-(-n // BLOCK) * BLOCK, dtype=a.dtype).at[:n, :n].set(a)
    return _blocks_by_halves(padded)[:n, :n]


def _blocks_by_halves(a: Float[Array, "N N"]) -> Float[Array, "N N"]:
    """Through the Schur complement of the first half of the rows."""
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
    """Gauss–Jordan sweeps by pivots of `block` rows in order; a positive-definite matrix needs no other order."""
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
