"""L2-regularised logistic regression with an unpenalised intercept, to its optimum.

Minimises ½‖w‖² + C Σᵢ log(1 + exp(−sᵢ(w·xᵢ + b))), sᵢ = ±1, by Newton's method: in the D weights where rows are
many, in one coefficient per row (w = Xᵀa, through the Gram matrix) where they are fewer than features. The intercept
is unpenalised, so centring the features changes nothing but the digits kept. Axes: N rows, D features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Bool, Float, Int

HIGHEST = jax.lax.Precision.HIGHEST
# Lengths tried along each Newton direction; the longest that does not raise the objective is taken.
STEPS = 0.5 ** np.arange(12, dtype=np.float32)
# Rounding of the float32 objective, which a step near the optimum may seem to raise.
SLACK = 1e-5


class LogisticFit(NamedTuple):
    """w, b and how the fit ended."""

    weights: Float[Array, " D"]
    intercept: Float[Array, ""]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


class _State(NamedTuple):
    coefficients: Array
    intercept: Array
    margins: Array
    penalty: Array
    iterations: Array
    converged: Array


def fit_logistic(
    x: Float[Array, "N D"],
    labels: Float[Array, " N"],
    c: float | Array = 1.0,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 60,
) -> LogisticFit:
    """Fit one probe.

    Args:
        x: float32 features.
        labels: 0 or 1.
        c: inverse regularisation strength, as scikit-learn's C.
        tolerance: stop after a full Newton step that moves no margin by more than this share of the largest one; as
            convergence is quadratic, what is left is about its square.
    """
    mean = jnp.mean(x, axis=0)
    x = x - mean
    fit = _newton_dual if x.shape[0] < x.shape[1] else _newton_primal
    weights, state = fit(x, labels, c, tolerance, max_iterations)
    intercept = state.intercept - jnp.dot(weights, mean, precision=HIGHEST)
    return LogisticFit(weights, intercept, state.iterations, state.converged)


def decision(x: Float[Array, "N D"], fit: LogisticFit) -> Float[Array, " N"]:
    """Log-odds of label 1."""
    return jnp.matmul(x, fit.weights, precision=HIGHEST) + fit.intercept


def _newton_primal(
    x: Float[Array, "N D"], labels: Array, c: float | Array, tolerance: float, limit: int
) -> tuple[Array, _State]:
    d = x.shape[1]

    def direction(state: _State) -> tuple[Array, Array]:
        p = jax.nn.sigmoid(state.margins)
        curvature = c * p * (1 - p)
        residual = c * (labels - p)
        weighted = x * curvature[:, None]
        hessian = jnp.matmul(weighted.T, x, precision=HIGHEST) + jnp.eye(d, dtype=x.dtype)
        cross, total = jnp.sum(weighted, axis=0), jnp.sum(curvature)
        gradient = state.coefficients - jnp.matmul(residual, x, precision=HIGHEST)
        # The intercept's row and column are eliminated, so that one positive-definite solve serves.
        solved = jsl.cho_solve(jsl.cho_factor(hessian, lower=True), jnp.stack([gradient, cross], axis=1))
        step_b = (jnp.sum(residual) + cross @ solved[:, 0]) / (total - cross @ solved[:, 1])
        return -solved[:, 0] - step_b * solved[:, 1], step_b

    def along(step: Array) -> tuple[Array, Array]:
        return jnp.matmul(x, step, precision=HIGHEST), step

    state = _newton(jnp.zeros(d, x.dtype), direction, along, labels, c, tolerance, limit)
    return state.coefficients, state


def _newton_dual(
    x: Float[Array, "N D"], labels: Array, c: float | Array, tolerance: float, limit: int
) -> tuple[Array, _State]:
    n = x.shape[0]
    gram = jnp.matmul(x, x.T, precision=HIGHEST)

    def direction(state: _State) -> tuple[Array, Array]:
        # Newton's target (a, b) solves (W⁻¹ + G) a + b1 = Ga + W⁻¹r with 1ᵀa = 0, conditioned by √W
        # (Rasmussen and Williams 2006, section 3.4).
        p = jax.nn.sigmoid(state.margins)
        root = jnp.sqrt(c * p * (1 - p))
        residual = c * (labels - p)
        factor = jsl.cho_factor(jnp.eye(n, dtype=x.dtype) + root[:, None] * gram * root[None, :], lower=True)

        def solve(curved: Array) -> Array:
            """(W⁻¹ + G)⁻¹ W⁻¹ of a vector that was already multiplied by W."""
            return curved - root * jsl.cho_solve(factor, root * jnp.matmul(gram, curved, precision=HIGHEST))

        target, ones = solve(root**2 * state.margins + residual), solve(root**2)
        intercept = jnp.sum(target) / jnp.sum(ones)
        return target - intercept * ones - state.coefficients, intercept - state.intercept

    def along(step: Array) -> tuple[Array, Array]:
        projected = jnp.matmul(gram, step, precision=HIGHEST)
        return projected, projected

    state = _newton(jnp.zeros(n, x.dtype), direction, along, labels, c, tolerance, limit)
    return jnp.matmul(state.coefficients, x, precision=HIGHEST), state


def _newton(start, direction, along, labels, c, tolerance, limit) -> _State:
    """Damped Newton.

    Args:
        direction: state → step in the coefficients and in the intercept.
        along: step in the coefficients → the margins it adds (Xw), and the vector u whose product with coefficients
            gives their penalty inner product (⟨w, w'⟩ = coefficients' · u).
    """

    def losses(margins: Array) -> Array:
        return jnp.sum(jax.nn.softplus(margins) - labels * margins, axis=-1)

    def body(state: _State) -> _State:
        step, step_b = direction(state)
        added, dual_step = along(step)
        added = added + step_b
        inner, square = state.coefficients @ dual_step, step @ dual_step
        penalties = state.penalty + 2 * STEPS * inner + STEPS**2 * square
        objective = 0.5 * penalties + c * losses(state.margins + STEPS[:, None] * added)
        before = 0.5 * state.penalty + c * losses(state.margins)
        chosen = jnp.argmax(objective <= before + SLACK * jnp.abs(before))
        length = jnp.asarray(STEPS)[chosen]
        small = jnp.max(jnp.abs(added)) <= tolerance * jnp.maximum(jnp.max(jnp.abs(state.margins + added)), 1)
        return _State(
            state.coefficients + length * step,
            state.intercept + length * step_b,
            state.margins + length * added,
            penalties[chosen],
            state.iterations + 1,
            small,
        )

    def unfinished(state: _State) -> Array:
        return ~state.converged & (state.iterations < limit)

    zero = jnp.zeros((), start.dtype)
    first = _State(start, zero, jnp.zeros_like(labels), zero, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    return jax.lax.while_loop(unfinished, body, first)
