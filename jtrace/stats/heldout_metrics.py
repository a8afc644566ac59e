"""Metrics of held-out predictions, under many weightings of the rows at once.

The first weighting is ones, for the estimate itself; the others are bootstrap draws, see `jtrace.stats.bootstrap`.
Axes: R repeats of the cross-validation, N rows, B weightings.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jtrace.kernels.gram import HIGHEST


class _Sums(NamedTuple):
    """Running weights of a fold, of its latest score, and of pairs; float32 [B] each."""

    ones: Array
    zeros: Array
    tied_ones: Array
    tied_zeros: Array
    above: Array
    pairs: Array


@jax.jit
def accuracy(
    scores: Float[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """Weighted share of predictions on their label's side of 0; a score of 0 is for label 0."""
    return _pooled((scores > 0) == (labels > 0.5), weights)


@jax.jit
def log_loss(
    scores: Float[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """Weighted mean cross-entropy of labels and predictions, in nats."""
    return _pooled(jax.nn.softplus(scores * (1 - 2 * labels)), weights)


@jax.jit
def auroc(
    scores: Float[Array, "R N"], folds: Int[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """Chance that of two rows held out together the one of label 1 scores higher, ties counting half.

    Only scores of one fit compare, so pairs are those within a fold of a repeat, pooled over folds by their number.

    Returns:
        NaN where the weights leave no such pair.
    """
    above, pairs = jax.lax.map(lambda of: _concordant(of[0], of[1], labels, weights.T), (scores, folds))
    return above.sum(axis=0) / pairs.sum(axis=0)


def label_entropy(labels: Float[Array, " N"], weights: Float[Array, "B N"]) -> Float[Array, " B"]:
    """Entropy of the labels, in nats."""
    one = jnp.dot(weights, labels, precision=HIGHEST) / weights.sum(axis=1)
    return jax.scipy.special.entr(one) + jax.scipy.special.entr(1 - one)


def _pooled(values: Array, weights: Float[Array, "B N"]) -> Float[Array, " B"]:
    """Weighted mean over rows and repeats."""
    return jnp.dot(weights, values.mean(axis=0), precision=HIGHEST) / weights.sum(axis=1)


def _concordant(
    scores: Float[Array, " N"], folds: Int[Array, " N"], labels: Float[Array, " N"], weights: Float[Array, "N B"]
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Weighted pairs in which label 1 scores higher, and all pairs, of one repeat: by one sort and running sums."""
    order = jnp.lexsort((scores, folds))
    scores, folds = scores[order], folds[order]
    new_fold = jnp.append(True, folds[1:] != folds[:-1])
    new_score = new_fold | jnp.append(True, scores[1:] != scores[:-1])

    def add(sums: _Sums, at: tuple[Array, Array, Array]) -> tuple[_Sums, None]:
        row, new_fold, new_score = at
        one = weights[row] * labels[row]
        zero = weights[row] - one
        ones, zeros, tied_ones, tied_zeros = (jnp.where(new_fold, 0, total) for total in sums[:4])
        tied_ones, tied_zeros = (jnp.where(new_score, 0, total) for total in (tied_ones, tied_zeros))
        above = sums.above + one * (zeros - tied_zeros / 2) + zero * tied_ones / 2
        pairs = sums.pairs + one * zeros + zero * ones
        return _Sums(ones + one, zeros + zero, tied_ones + one, tied_zeros + zero, above, pairs), None

    start = _Sums(*jnp.zeros((6, weights.shape[1]), weights.dtype))
    # Sums over [N, B] at once take four times as long on a CPU: they do not fit its cache.
    sums, _ = jax.lax.scan(add, start, (order, new_fold, new_score), unroll=8)
    return sums.above, sums.pairs
