"""L2-regularised logistic regression with an unpenalised intercept, solved to its optimum.

Minimises f(w, b) = ½‖w‖² + Σᵢ Cᵢ log(1 + exp(−sᵢ(w·xᵢ + b))), sᵢ = ±1, by damped Newton. A step solves for the D + 1
coefficients by conjugate gradients, preconditioned through the Cholesky factor of an earlier iterate's Hessian: a
product with the rows is far cheaper than a Hessian. With fewer rows than features, the features are first rotated
into an orthonormal basis of the rows' span. That keeps penalty and margins, and makes D at most N.

A fit has converged when half the squared Newton decrement (the gain that is left by a quadratic model) is a small share
of the objective (Boyd and Vandenberghe 2004, section 9.5.1). Axes: N rows, D features.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.gram import HIGHEST
from jtrace.kernels.spd_inverse import inverse_factor

# The share of the objective that may be left to gain before the last step, which then gains nearly all of it.
TOLERANCE = 1e-7
# Lengths of a step along the Newton direction; the longest that does not raise the objective is taken.
LENGTHS = 0.5 ** np.arange(12, dtype=np.float32)
# Rounding of the float32 objective: near the optimum a step may seem to raise it by this share.
SLACK = 1e-6
# Conjugate gradients reduce the error of a step to this share, in at most CG_LIMIT products with the rows. A step that
# took more than CG_MANY shows that the preconditioner is too old.
CG_TOLERANCE, CG_LIMIT, CG_MANY = 1e-3, 60, 12
# After this many steps every step gets a fresh Hessian; after twice as many the fit has failed.
MOST_STEPS = 30
EPSILON, TINY = np.finfo(np.float32).eps, np.finfo(np.float32).tiny


class LogisticFit(NamedTuple):
    """Weights, intercept, and how the fit ended."""

    weights: Float[Array, " D"]
    intercept: Float[Array, ""]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


class Iterate(NamedTuple):
    """A solver's state.

    Attributes:
        coefficients: weights of the solver's features, then the intercept.
        factor: K, where KᵀK approximates the inverse Hessian.
        aged: whether `factor` has to be computed again.
    """

    coefficients: Float[Array, " K"]
    factor: Float[Array, "K K"]
    aged: Bool[Array, ""]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


@dataclass(frozen=True)
class Solver:
    """Newton's method on one set of features, shared by fits of several C or labels.

    Attributes:
        rows: centred features, in the basis where N < D, and a last column of ones.
        mean: means of the features.
        basis: orthonormal columns; None where features are not rotated.
    """

    rows: Float[Array, "N K"]
    mean: Float[Array, " D"]
    basis: Float[Array, "D N"] | None

    def first(self, c: Float[Array, " N"]) -> Iterate:
        """Returns the iterate at zero, where the curvature of every row is C/4."""
        zero = jnp.zeros(self.rows.shape[1], self.rows.dtype)
        nothing = jnp.zeros((), bool)
        return Iterate(zero, _factor(self.rows, 0.25 * c), nothing, jnp.zeros((), jnp.int32), nothing)

    def margins(self, at: Iterate) -> Float[Array, " N"]:
        """Computes the rows' log-odds of label 1."""
        return _product(self.rows, at.coefficients)

    def solve(self, start: Iterate, labels: Float[Array, " N"], c: Float[Array, " N"], tolerance: float) -> Iterate:
        """Solves from an iterate on, which may be one of another C; arguments as in `fit_logistic`."""
        return _newton(self.rows, start, labels, c, tolerance)

    def fit(self, at: Iterate) -> LogisticFit:
        """Returns an iterate's probe for the features as they were given."""
        weights = at.coefficients[:-1]
        weights = weights if self.basis is None else _product(self.basis, weights)
        intercept = at.coefficients[-1] - _product(weights, self.mean)
        return LogisticFit(weights, intercept, at.iterations, at.converged)


def fit_logistic(
    x: Float[Array, "N D"], labels: Float[Array, " N"], c: float | Array = 1.0, tolerance: float = TOLERANCE
) -> LogisticFit:
    """Fits one probe.

    Args:
        x: float32 features.
        labels: 0 or 1.
        c: inverse regularisation strength, as scikit-learn's C; one per row weighs the rows, and 0 leaves a row out.
        tolerance: share of the objective that may be left to gain before the last step.
    """
    solver = logistic_solver(x)
    of_rows = jnp.full(x.shape[0], c, x.dtype) if jnp.ndim(c) == 0 else jnp.asarray(c)
    return solver.fit(solver.solve(solver.first(of_rows), labels, of_rows, tolerance))


def logistic_solver(x: Float[Array, "N D"]) -> Solver:
    """Makes the solver of some features."""
    mean = jnp.mean(x, axis=0)
    features, basis = x - mean, None
    if x.shape[0] < x.shape[1]:
        basis, triangular = jnp.linalg.qr(features.T)
        features = triangular.T
    return Solver(jnp.pad(features, ((0, 0), (0, 1)), constant_values=1), mean, basis)


def decision(x: Float[Array, "N D"], fit: LogisticFit) -> Float[Array, " N"]:
    """Computes log-odds of label 1."""
    return _product(x, fit.weights) + fit.intercept


def _newton(rows: Float[Array, "N K"], start: Iterate, labels: Array, c: Array, tolerance: float) -> Iterate:
    """Runs damped Newton steps until the fit has converged or failed."""

    def objective(penalty: Array, margins: Array) -> Array:
        return 0.5 * penalty + jnp.sum(c * (jax.nn.softplus(margins) - labels * margins), axis=-1)

    def body(at: Iterate) -> Iterate:
        beta, margins = at.coefficients, _product(rows, at.coefficients)
        p = jax.nn.sigmoid(margins)
        curvature = c * p * (1 - p)
        factor = jax.lax.cond(at.aged, lambda: _factor(rows, curvature), lambda: at.factor)
        descent = _product(c * (labels - p), rows) - _penalised(beta)
        step, aged, solved = _newton_step(rows, curvature, factor, descent)
        gain, before = 0.5 * _product(descent, step), objective(_square(beta), margins)
        lengths = jnp.asarray(LENGTHS)
        inner = _product(_penalised(beta), step)
        penalties = _square(beta) + 2 * lengths * inner + lengths**2 * _square(step)
        after = objective(penalties, margins + lengths[:, None] * _product(rows, step))
        fits = after <= before + SLACK * jnp.abs(before)
        length = jnp.where(fits.any(), lengths[jnp.argmax(fits)], lengths[-1])
        return Iterate(
            beta + length * step,
            factor,
            aged | (at.iterations + 1 >= MOST_STEPS),
            at.iterations + 1,
            solved & (gain <= tolerance * before),
        )

    def unfinished(at: Iterate) -> Array:
        return ~at.converged & (at.iterations < 2 * MOST_STEPS)

    fresh = start._replace(iterations=jnp.zeros((), jnp.int32), converged=jnp.zeros((), bool))
    return jax.lax.while_loop(unfinished, body, fresh)


def _newton_step(
    rows: Float[Array, "N K"], curvature: Float[Array, " N"], factor: Float[Array, "K K"], descent: Float[Array, " K"]
) -> tuple[Float[Array, " K"], Bool[Array, ""], Bool[Array, ""]]:
    """Computes H⁻¹ times the descent, whether the factor is too old, and whether the step's error is small enough.

    Energy and curvature are sums of squares, so that they cannot turn negative, whatever rounding did to the factor.
    """

    def precondition(residual: Array) -> tuple[Array, Array]:
        half = _product(factor, residual)
        return _product(half, factor), _product(half, half)

    def body(carry: tuple) -> tuple:
        step, residual, search, energy, count = carry
        margins = _product(rows, search)
        bend = _square(search) + _product(curvature, margins**2)
        length = energy / jnp.maximum(bend, TINY)
        residual = residual - length * (_penalised(search) + _product(curvature * margins, rows))
        improved, new_energy = precondition(residual)
        return step + length * search, residual, improved + new_energy / energy * search, new_energy, count + 1

    search, whole = precondition(descent)

    def small(energy: Array) -> Array:
        return energy <= CG_TOLERANCE**2 * whole

    def unfinished(carry: tuple) -> Array:
        return ~small(carry[3]) & (carry[4] < CG_LIMIT)

    start = jnp.zeros_like(descent), descent, search, whole, jnp.zeros((), jnp.int32)
    step, _, _, energy, count = jax.lax.while_loop(unfinished, body, start)
    # A gradient without energy means a faulty factor: the step is 0, but the optimum is not reached.
    solved = small(energy) & ((whole > 0) | ~descent.any())
    return jnp.where(jnp.isfinite(step).all(), step, 0), ~solved | (count > CG_MANY), solved


def _factor(rows: Float[Array, "N K"], curvature: Float[Array, " N"]) -> Float[Array, "K K"]:
    """Computes K with KᵀK near the inverse Hessian; from its diagonal alone where float32 finds it indefinite."""
    hessian = _product((rows * curvature[:, None]).T, rows) + jnp.diag(_penalised(jnp.ones(rows.shape[1], rows.dtype)))
    # Rounding of the products is a share of the largest eigenvalue; without the shift it could exceed the smallest.
    diagonal = jnp.diagonal(hessian)
    shift = EPSILON * jnp.sum(diagonal)
    factor = inverse_factor(hessian + shift * jnp.eye(rows.shape[1], dtype=rows.dtype))
    return jnp.where(jnp.isfinite(factor).all(), factor, jnp.diag(1 / jnp.sqrt(diagonal + TINY)))


def _penalised(coefficients: Float[Array, " K"]) -> Float[Array, " K"]:
    """Sets the intercept to 0: the coefficients that are penalised."""
    return coefficients.at[-1].set(0)


def _square(coefficients: Float[Array, " K"]) -> Float[Array, ""]:
    """Computes ‖w‖²."""
    return _product(coefficients[:-1], coefficients[:-1])


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)
