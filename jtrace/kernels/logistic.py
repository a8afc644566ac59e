"""L2-regularised logistic regression with an unpenalised intercept, to its optimum.

Minimises ½‖w‖² + C Σᵢ log(1 + exp(−sᵢ(w·xᵢ + b))), sᵢ = ±1, by damped Newton. Where rows are at least as many as
features, a step solves for the D weights by conjugate gradients, preconditioned with the inverse Hessian of an earlier
iterate (a product with the rows is far cheaper than a Hessian); where they are fewer, it solves exactly for one
coefficient per row (w = Xᵀa) through the Gram matrix. The intercept is unpenalised, so centring the features changes
nothing but the digits kept. Axes: N rows, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
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


class Iterate(NamedTuple):
    """Where a solver stands: in coefficients (K of them: w, or a of w = Xᵀa) and the intercept of centred features."""

    coefficients: Float[Array, " K"]
    intercept: Float[Array, ""]
    margins: Float[Array, " N"]
    penalty: Float[Array, ""]
    memory: Array | tuple[Array, ...]
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


@dataclass(frozen=True)
class Solver:
    """Newton's method on one set of features: fits for several C or labels share what depends on the features alone.

    Attributes:
        first: C of each row → the iterate at zero.
        direction: iterate, labels, C of each row → the step from there.
        along: step in the coefficients → the margins it adds (Xw), and the vector u whose product with coefficients
            gives their penalty inner product (⟨w, w'⟩ = coefficients' · u).
        weights: coefficients → w.
        mean: of the features.
    """

    first: Callable[[Array], Iterate]
    direction: Callable[[Iterate, Array, Array], "_Step"]
    along: Callable[[Array], tuple[Array, Array]]
    weights: Callable[[Array], Array]
    mean: Float[Array, " D"]

    def solve(
        self, start: Iterate, labels: Float[Array, " N"], c: Array, tolerance: float, max_iterations: int = 60
    ) -> Iterate:
        """On from an iterate, as of another C or of none; arguments as of `fit_logistic`."""
        return _newton(self, start, labels, c, tolerance, max_iterations)

    def fit(self, at: Iterate) -> LogisticFit:
        """The probe of an iterate, for features that are not centred."""
        weights = self.weights(at.coefficients)
        intercept = at.intercept - jnp.dot(weights, self.mean, precision=HIGHEST)
        return LogisticFit(weights, intercept, at.iterations, at.converged)


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
    solver = logistic_solver(x)
    of_rows = jnp.full(x.shape[0], c, x.dtype) if jnp.ndim(c) == 0 else jnp.asarray(c)
    return solver.fit(solver.solve(solver.first(of_rows), labels, of_rows, tolerance, max_iterations))


def logistic_solver(x: Float[Array, "N D"]) -> Solver:
    """The solver that suits the shape of some features."""
    mean = jnp.mean(x, axis=0)
    return (_dual if x.shape[0] < x.shape[1] else _primal)(x - mean, mean)


def decision(x: Float[Array, "N D"], fit: LogisticFit) -> Float[Array, " N"]:
    """Log-odds of label 1."""
    return _product(x, fit.weights) + fit.intercept


class _Step(NamedTuple):
    """A Newton step: in the coefficients (w or a) and the intercept, and what the solver keeps for the next one."""

    coefficients: Array
    intercept: Array
    memory: Array | tuple[Array, ...]


def _primal(x: Float[Array, "N D"], mean: Float[Array, " D"]) -> Solver:
    n, d = x.shape

    def inverse_hessian(curvature: Array) -> Float[Array, "D D"]:
        """Of the weights alone: the intercept is preconditioned by its own curvature."""
        hessian = jnp.matmul((x * curvature[:, None]).T, x, precision=HIGHEST) + jnp.eye(d, dtype=x.dtype)
        return spd_inverse(hessian)

    def direction(at: Iterate, labels: Array, c: Array) -> _Step:
        p = jax.nn.sigmoid(at.margins)
        curvature, residual = c * p * (1 - p), c * (labels - p)
        inverse, aged = at.memory
        inverse = jax.lax.cond(aged, inverse_hessian, lambda _: inverse, curvature)
        total = jnp.sum(curvature)

        def hessian_product(v: tuple[Array, Array]) -> tuple[Array, Array]:
            weighted = curvature * (_product(x, v[0]) + v[1])
            return v[0] + _product(weighted, x), jnp.sum(weighted)

        descent = _product(residual, x) - at.coefficients, jnp.sum(residual)
        (step, step_b), products = _conjugate_gradients(
            hessian_product, descent, lambda r: (_product(inverse, r[0]), r[1] / jnp.maximum(total, TINY))
        )
        return _Step(step, step_b, (inverse, products > CG_MANY))

    def first(c: Array) -> Iterate:
        # At w = 0 every curvature is C/4.
        memory = inverse_hessian(0.25 * c), jnp.zeros((), bool)
        return _at_zero(jnp.zeros(d, x.dtype), memory, n)

    return Solver(first, direction, lambda step: (_product(x, step), step), lambda weights: weights, mean)


def _dual(x: Float[Array, "N D"], mean: Float[Array, " D"]) -> Solver:
    n = x.shape[0]
    gram = linear_products(x)

    def direction(at: Iterate, labels: Array, c: Array) -> _Step:
        # Newton's target (a, b) solves (W⁻¹ + G) a + b1 = W⁻¹r + Ga + b1 with 1ᵀa = 0, conditioned by √W
        # (Rasmussen and Williams 2006, section 3.4).
        p = jax.nn.sigmoid(at.margins)
        root, residual = jnp.sqrt(c * p * (1 - p)), c * (labels - p)
        factor = jsl.cho_factor(jnp.eye(n, dtype=x.dtype) + root[:, None] * gram * root[None, :], lower=True)

        def solve(curved: Array) -> Array:
            """(I + WG)⁻¹ of a vector."""
            return curved - root * jsl.cho_solve(factor, root * _product(gram, curved))

        target, ones = solve(root**2 * at.margins + residual), solve(root**2)
        intercept = jnp.sum(target) / jnp.sum(ones)
        return _Step(target - intercept * ones - at.coefficients, intercept - at.intercept, ())

    def along(step: Array) -> tuple[Array, Array]:
        projected = _product(gram, step)
        return projected, projected

    def first(_: Array) -> Iterate:
        return _at_zero(jnp.zeros(n, x.dtype), (), n)

    return Solver(first, direction, along, lambda coefficients: _product(coefficients, x), mean)


def _at_zero(coefficients: Array, memory: Array | tuple[Array, ...], rows: int) -> Iterate:
    zero = jnp.zeros((), coefficients.dtype)
    margins = jnp.zeros(rows, coefficients.dtype)
    return Iterate(coefficients, zero, margins, zero, memory, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def _newton(solver: Solver, start: Iterate, labels: Array, c: Array, tolerance: float, limit: int) -> Iterate:
    """Damped Newton."""

    def objectives(penalty: Array, margins: Array) -> Array:
        return 0.5 * penalty + jnp.sum(c * (jax.nn.softplus(margins) - labels * margins), axis=-1)

    def body(at: Iterate) -> Iterate:
        step = solver.direction(at, labels, c)
        added, dual_step = solver.along(step.coefficients)
        added = added + step.intercept
        inner, square = jnp.dot(at.coefficients, dual_step), jnp.dot(step.coefficients, dual_step)
        penalties = at.penalty + 2 * STEPS * inner + STEPS**2 * square
        before = objectives(at.penalty, at.margins)
        after = objectives(penalties, at.margins + STEPS[:, None] * added)
        fits = after <= before + SLACK * jnp.abs(before)
        chosen = jnp.where(fits.any(), jnp.argmax(fits), len(STEPS) - 1)
        length = jnp.asarray(STEPS)[chosen]
        small = jnp.max(jnp.abs(added)) <= tolerance * jnp.maximum(jnp.max(jnp.abs(at.margins + added)), 1)
        return Iterate(
            at.coefficients + length * step.coefficients,
            at.intercept + length * step.intercept,
            at.margins + length * added,
            penalties[chosen],
            step.memory,
            at.iterations + 1,
            small,
        )

    def unfinished(at: Iterate) -> Array:
        return ~at.converged & (at.iterations < limit)

    fresh = start._replace(iterations=jnp.zeros((), jnp.int32), converged=jnp.zeros((), bool))
    return jax.lax.while_loop(unfinished, body, fresh)


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
