"""L2-regularised logistic regression with an unpenalised intercept, to its optimum.

Minimises ½‖w‖² + C Σᵢ log(1 + exp(−sᵢ(w·xᵢ + b))), sᵢ = ±1, by damped Newton. Where rows are at least as many as
features, a step solves for the D weights by conjugate gradients, preconditioned with the inverse Hessian of an earlier
iterate (a product with the rows is far cheaper than a Hessian); where they are fewer, it solves exactly for one
coefficient per row (w = Xᵀa) through the Gram matrix. The intercept is unpenalised, so centring the features changes
nothing but the digits kept. Axes: N rows, D features.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.gram import HIGHEST, linear_products
from jtrace.kernels.inverse import spd_inverse

# Lengths tried along each Newton direction; the longest that does not raise the objective is taken.
STEPS = 0.5 ** np.arange(12, dtype=np.float32)
# Rounding of the float32 objective, which a step near the optimum may seem to raise.
SLACK = 1e-5
# Conjugate gradients reduce a step's residual by this much, in at most so many products with the rows; a step that
# needed many is taken as a sign that the preconditioner has aged.
CG_TOLERANCE, CG_LIMIT, CG_MANY = 1e-3, 60, 12
TINY = np.finfo(np.float32).tiny


class LogisticFit(NamedTuple):
    """w, b and how the fit ended."""

    weights: Float[Array, " D"]
    intercept: Float[Array, ""]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


def fit_logistic(
    x: Float[Array, "N D"],
    labels: Float[Array, " N"],
    c: float | Array = 1.0,
    *,
    tolerance: float = 1e-4,
    max_iterations: int = 60,
) -> LogisticFit:
    """Fit one probe.

    Args:
        x: float32 features.
        labels: 0 or 1.
        c: inverse regularisation strength, as scikit-learn's C; one per row weighs the rows, 0 leaves a row out.
        tolerance: stop after a full Newton step that moves no margin by more than this share of the largest one; what
            is left is then about CG_TOLERANCE of it, or less.
    """
    mean = jnp.mean(x, axis=0)
    fit = _fit_dual if x.shape[0] < x.shape[1] else _fit_primal
    weights, state = fit(x - mean, labels, c, tolerance, max_iterations)
    intercept = state.intercept - jnp.dot(weights, mean, precision=HIGHEST)
    return LogisticFit(weights, intercept, state.iterations, state.converged)


def decision(x: Float[Array, "N D"], fit: LogisticFit) -> Float[Array, " N"]:
    """Log-odds of label 1."""
    return _product(x, fit.weights) + fit.intercept


class _Step(NamedTuple):
    """A Newton step: in the coefficients (w or a) and the intercept, and what the solver keeps for the next one."""

    coefficients: Array
    intercept: Array
    memory: Array | tuple[Array, ...]


class _State(NamedTuple):
    coefficients: Array
    intercept: Array
    margins: Array
    penalty: Array
    memory: Array | tuple[Array, ...]
    iterations: Array
    converged: Array


def _fit_primal(
    x: Float[Array, "N D"], labels: Array, c: float | Array, tolerance: float, limit: int
) -> tuple[Array, _State]:
    n, d = x.shape

    def inverse_hessian(curvature: Array) -> Float[Array, "D D"]:
        """Of the weights alone: the intercept is preconditioned by its own curvature."""
        hessian = jnp.matmul((x * curvature[:, None]).T, x, precision=HIGHEST) + jnp.eye(d, dtype=x.dtype)
        return spd_inverse(hessian)

    def direction(state: _State) -> _Step:
        p = jax.nn.sigmoid(state.margins)
        curvature, residual = c * p * (1 - p), c * (labels - p)
        inverse, aged = state.memory
        inverse = jax.lax.cond(aged, inverse_hessian, lambda _: inverse, curvature)
        total = jnp.sum(curvature)

        def hessian_product(v: tuple[Array, Array]) -> tuple[Array, Array]:
            weighted = curvature * (_product(x, v[0]) + v[1])
            return v[0] + _product(weighted, x), jnp.sum(weighted)

        descent = _product(residual, x) - state.coefficients, jnp.sum(residual)
        (step, step_b), products = _conjugate_gradients(
            hessian_product, descent, lambda r: (_product(inverse, r[0]), r[1] / jnp.maximum(total, TINY))
        )
        return _Step(step, step_b, (inverse, products > CG_MANY))

    def along(step: Array) -> tuple[Array, Array]:
        return _product(x, step), step

    # At w = 0 every curvature is C/4.
    memory = inverse_hessian(jnp.full(n, 0.25 * c, x.dtype)), jnp.zeros((), bool)
    state = _newton(jnp.zeros(d, x.dtype), memory, direction, along, labels, c, tolerance, limit)
    return state.coefficients, state


def _fit_dual(
    x: Float[Array, "N D"], labels: Array, c: float | Array, tolerance: float, limit: int
) -> tuple[Array, _State]:
    n = x.shape[0]
    gram = linear_products(x)

    def direction(state: _State) -> _Step:
        # Newton's target (a, b) solves (W⁻¹ + G) a + b1 = W⁻¹r + Ga + b1 with 1ᵀa = 0, conditioned by √W
        # (Rasmussen and Williams 2006, section 3.4).
        p = jax.nn.sigmoid(state.margins)
        root, residual = jnp.sqrt(c * p * (1 - p)), c * (labels - p)
        factor = jsl.cho_factor(jnp.eye(n, dtype=x.dtype) + root[:, None] * gram * root[None, :], lower=True)

        def solve(curved: Array) -> Array:
            """(I + WG)⁻¹ of a vector."""
            return curved - root * jsl.cho_solve(factor, root * _product(gram, curved))

        target, ones = solve(root**2 * state.margins + residual), solve(root**2)
        intercept = jnp.sum(target) / jnp.sum(ones)
        return _Step(target - intercept * ones - state.coefficients, intercept - state.intercept, ())

    def along(step: Array) -> tuple[Array, Array]:
        projected = _product(gram, step)
        return projected, projected

    state = _newton(jnp.zeros(n, x.dtype), (), direction, along, labels, c, tolerance, limit)
    return _product(state.coefficients, x), state


def _newton(
    start: Array,
    memory: Array | tuple[Array, ...],
    direction: Callable[[_State], _Step],
    along: Callable[[Array], tuple[Array, Array]],
    labels: Array,
    c: float | Array,
    tolerance: float,
    limit: int,
) -> _State:
    """Damped Newton from zero coefficients.

    Args:
        direction: the step at a state.
        along: step in the coefficients → the margins it adds (Xw), and the vector u whose product with coefficients
            gives their penalty inner product (⟨w, w'⟩ = coefficients' · u).
    """

    def objectives(penalty: Array, margins: Array) -> Array:
        return 0.5 * penalty + jnp.sum(c * (jax.nn.softplus(margins) - labels * margins), axis=-1)

    def body(state: _State) -> _State:
        step = direction(state)
        added, dual_step = along(step.coefficients)
        added = added + step.intercept
        inner, square = jnp.dot(state.coefficients, dual_step), jnp.dot(step.coefficients, dual_step)
        penalties = state.penalty + 2 * STEPS * inner + STEPS**2 * square
        before = objectives(state.penalty, state.margins)
        after = objectives(penalties, state.margins + STEPS[:, None] * added)
        fits = after <= before + SLACK * jnp.abs(before)
        chosen = jnp.where(fits.any(), jnp.argmax(fits), len(STEPS) - 1)
        length = jnp.asarray(STEPS)[chosen]
        small = jnp.max(jnp.abs(added)) <= tolerance * jnp.maximum(jnp.max(jnp.abs(state.margins + added)), 1)
        return _State(
            state.coefficients + length * step.coefficients,
            state.intercept + length * step.intercept,
            state.margins + length * added,
            penalties[chosen],
            step.memory,
            state.iterations + 1,
            small,
        )

    def unfinished(state: _State) -> Array:
        return ~state.converged & (state.iterations < limit)

    zero = jnp.zeros((), start.dtype)
    first = _State(start, zero, jnp.zeros_like(labels), zero, memory, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    return jax.lax.while_loop(unfinished, body, first)


def _conjugate_gradients(
    product: Callable[[tuple[Array, Array]], tuple[Array, Array]],
    target: tuple[Array, Array],
    precondition: Callable[[tuple[Array, Array]], tuple[Array, Array]],
) -> tuple[tuple[Array, Array], Int[Array, ""]]:
    """Solve product(v) = target for (weights, intercept); also says how many products that took."""

    def inner(u: tuple[Array, Array], v: tuple[Array, Array]) -> Array:
        return jnp.dot(u[0], v[0], precision=HIGHEST) + u[1] * v[1]

    def combine(u: tuple[Array, Array], factor: Array, v: tuple[Array, Array]) -> tuple[Array, Array]:
        return u[0] + factor * v[0], u[1] + factor * v[1]

    def body(carry: tuple) -> tuple:
        solution, residual, search, energy, count = carry
        image = product(search)
        length = energy / inner(search, image)
        solution, residual = combine(solution, length, search), combine(residual, -length, image)
        improved = precondition(residual)
        new_energy = inner(residual, improved)
        return solution, residual, combine(improved, new_energy / energy, search), new_energy, count + 1

    first_search = precondition(target)
    first_energy = inner(target, first_search)

    def unfinished(carry: tuple) -> Array:
        return (carry[3] > CG_TOLERANCE**2 * first_energy) & (carry[4] < CG_LIMIT)

    zeros = jax.tree.map(jnp.zeros_like, target)
    first = zeros, target, first_search, first_energy, jnp.zeros((), jnp.int32)
    solution, _, _, _, count = jax.lax.while_loop(unfinished, body, first)
    return solution, count


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=HIGHEST)
