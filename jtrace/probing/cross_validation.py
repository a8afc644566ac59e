"""Probes under grouped cross-validation: C chosen within the training rows, every row scored by a probe that has not
seen its group.

Axes: N rows of a set, F fits (folds of all repeats, repeats-major), R repeats, n training rows of a fit (all fits
padded to one length), J inner splits, C strengths of regularisation, D features.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.data.splits import Fold
from jtrace.kernels.gram import HIGHEST
from jtrace.kernels.logistic import TOLERANCE, Iterate, Solver, decision, logistic_solver
from jtrace.kernels.standardise import scaled, training_scale

# Features are standardised, so these serve any width: from next to no weight at all to the paper's C.
STRENGTHS = np.geomspace(1e-5, 1, 9).astype(np.float32)
# A path ends once so many strengths in a row were no better than the best: what follows fits noise, and takes longest.
PATIENCE = 2
# Share of the objective that may be left to gain when the last step of a path's fit is taken, which gains nearly all.
PATH_TOLERANCE = 1e-4


class FoldRows(NamedTuple):
    """Training rows of each fit. Padding repeats a training row, with weight 0.

    Attributes:
        train: rows of the set.
        weights: 1 or 0.
        held_out: 1 for the training rows that an inner split holds out.
        fold_of: which fold of a repeat each row of the set is held out in.
    """

    train: Int[Array, "F n"]
    weights: Float[Array, "F n"]
    held_out: Float[Array, "F J n"]
    fold_of: Int[Array, "R N"]


class FoldProbe(NamedTuple):
    """Results of one fit; scores are log-odds of label 1 for all rows of the set, those it trained on included.

    Attributes:
        scores: of the logistic probe.
        mass_mean: of the probe along the difference of the class means (arXiv 2310.06824), cut half-way; no log-odds.
        control: of a logistic probe that was fitted to other labels with the same C (Hewitt and Liang 2019); None where
            there are none.
        c: the chosen strength.
        inner_loss: mean cross-entropy, in nats, of the inner rows at that strength.
        weights, intercept: of the logistic probe, for standardised features.
        mean, scale: of the features over the training rows.
    """

    scores: Float[Array, " N"]
    mass_mean: Float[Array, " N"]
    control: Float[Array, " N"] | None
    c: Float[Array, ""]
    inner_loss: Float[Array, ""]
    weights: Float[Array, " D"]
    intercept: Float[Array, ""]
    mean: Float[Array, " D"]
    scale: Float[Array, " D"]
    converged: Bool[Array, ""]


def fold_rows(folds: Sequence[Fold], count: int) -> FoldRows:
    """Lay folds out as arrays of one shape.

    Args:
        count: rows of the set.
    """
    longest = max(len(fold.train) for fold in folds)
    train = np.stack([np.append(fold.train, np.repeat(fold.train[0], longest - len(fold.train))) for fold in folds])
    weights = np.stack([np.arange(longest) < len(fold.train) for fold in folds]).astype(np.float32)
    held_out = np.stack(
        [[np.isin(train[at], inner.test) for inner in fold.inner] for at, fold in enumerate(folds)]
    ).astype(np.float32)
    fold_of = np.zeros((folds[-1].repeat + 1, count), np.int32)
    for at, fold in enumerate(folds):
        fold_of[fold.repeat, fold.test] = at % (len(folds) // len(fold_of))
    return FoldRows(*map(jnp.asarray, (train.astype(np.int32), weights, held_out * weights[:, None], fold_of)))


def cross_validate(
    x: Float[Array, "N D"], labels: Float[Array, " N"], control: Float[Array, "R N"] | None, rows: FoldRows
) -> FoldProbe:
    """Every fit, results with a leading axis F.

    Args:
        x: float32 features; each fit standardises them over its training rows.
        labels: 0 or 1.
        control: the labels of a control task, for each repeat.
    """
    repeats = jnp.repeat(jnp.arange(len(rows.fold_of)), len(rows.train) // len(rows.fold_of))

    def fit(at: tuple[Array, ...]) -> FoldProbe:
        train, weights, held_out, repeat = at
        mean, scale = training_scale(x[train], weights)
        other = None if control is None else control[repeat]
        probe = fold_probe(scaled(x, mean, scale), labels, other, train, weights, held_out)
        return probe._replace(mean=mean, scale=scale)

    return jax.lax.map(fit, (rows.train, rows.weights, rows.held_out, repeats))


def held_out_scores(scores: Float[Array, "F N"], fold_of: Int[Array, "R N"]) -> Float[Array, "R N"]:
    """Score of each row, for each repeat, by the fit that held it out."""
    repeats, count = fold_of.shape
    fit = fold_of + (len(scores) // repeats) * jnp.arange(repeats)[:, None]
    return jnp.asarray(scores)[fit, jnp.arange(count)]


def fold_probe(
    z: Float[Array, "N D"],
    labels: Float[Array, " N"],
    control: Float[Array, " N"] | None,
    train: Int[Array, " n"],
    weights: Float[Array, " n"],
    held_out: Float[Array, "J n"],
) -> FoldProbe:
    """One fit: C by the cross-entropy of the inner rows, then all training rows at that C.

    Args:
        z: features, standardised over the training rows where they should be.
        train, weights, held_out: a row of `FoldRows`.
    """
    solver, y = logistic_solver(z[train]), labels[train]
    at = solver.first(STRENGTHS[0] * weights)
    patience = PATIENCE if len(held_out) == 1 else len(STRENGTHS)
    losses = jnp.zeros(len(STRENGTHS))
    arrived = jnp.ones((), bool)
    for j in range(len(held_out)):
        at, inner_losses, path, path_arrived = _path(solver, at, y, weights, held_out[j], patience)
        losses, arrived = losses + inner_losses / len(held_out), arrived & path_arrived
    best = jnp.argmin(losses)
    c = jnp.asarray(STRENGTHS)[best]
    chosen = solver.solve(at._replace(coefficients=path[best]), y, c * weights, TOLERANCE)
    control_scores, arrived = None, arrived & chosen.converged
    if control is not None:
        other = solver.solve(_at_zero(chosen), control[train], c * weights, TOLERANCE)
        control_scores, arrived = decision(z, solver.fit(other)), arrived & other.converged
    fit = solver.fit(chosen)
    width = jnp.ones(z.shape[1], z.dtype)
    return FoldProbe(
        decision(z, fit),
        _mass_mean(z, z[train], y, weights),
        control_scores,
        c,
        losses[best],
        fit.weights,
        fit.intercept,
        0 * width,
        width,
        arrived,
    )


def _path(
    solver: Solver, start: Iterate, labels: Float[Array, " n"], weights: Array, held_out: Array, patience: int
) -> tuple[Iterate, Float[Array, " C"], Float[Array, "C K"], Bool[Array, ""]]:
    """Fits from weak to strong, each from the last.

    Returns:
        The last iterate, the cross-entropy of the rows held out, where each fit ended, and whether all converged.
    """
    inner = weights - held_out

    def along(carry: tuple, c: Array) -> tuple[tuple, tuple]:
        at, best, worse = carry
        goes_on = worse < patience
        at = jax.lax.cond(goes_on, lambda at: solver.solve(at, labels, c * inner, PATH_TOLERANCE), lambda at: at, at)
        margins = solver.margins(at)
        losses = jax.nn.softplus(margins) - labels * margins
        loss = jnp.where(goes_on, jnp.sum(held_out * losses) / jnp.sum(held_out), jnp.inf)
        worse = jnp.where(loss < best, 0, worse + 1)
        return (at, jnp.minimum(best, loss), worse), (loss, at.coefficients, at.converged)

    first = _at_zero(start), jnp.float32(jnp.inf), jnp.int32(0)
    (at, _, _), (losses, coefficients, converged) = jax.lax.scan(along, first, jnp.asarray(STRENGTHS))
    return at, losses, coefficients, converged.all()


def _at_zero(like: Iterate) -> Iterate:
    """The iterate at zero, with another one's factor."""
    return like._replace(coefficients=jnp.zeros_like(like.coefficients))


def _mass_mean(
    z: Float[Array, "N D"], train: Float[Array, "n D"], labels: Float[Array, " n"], weights: Float[Array, " n"]
) -> Float[Array, " N"]:
    ones, zeros = weights * labels, weights * (1 - labels)
    one = jnp.matmul(ones, train, precision=HIGHEST) / jnp.sum(ones)
    zero = jnp.matmul(zeros, train, precision=HIGHEST) / jnp.sum(zeros)
    return jnp.matmul(z - (one + zero) / 2, one - zero, precision=HIGHEST)
