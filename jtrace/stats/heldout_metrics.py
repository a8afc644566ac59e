"""Metrics of held-out predictions, under many weightings of the rows at once.

The first weighting is all ones and gives the estimate itself; the others are draws of `jtrace.stats.bootstrap`.
Where rows weigh alike, what is counted is exact in float32 up to 2²⁴, and only the quotient is rounded.

AUROC has two forms. `auroc` is exact under every weighting. `linear_auroc` is linear in the weights: of thousands of
draws for tens of layers the exact form would take most of a minute, and the interval is the same but for terms of the
order of the square of the standard error.
Axes: R repeats of the cross-validation, N rows, B weightings, L layers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.gram import HIGHEST


class _Sums(NamedTuple):
    """Running sums of weights: of a fold, of its latest score, and of pairs; float32 [B] each."""

    ones: Array
    zeros: Array
    tied_ones: Array
    tied_zeros: Array
    above: Array
    pairs: Array


def is_right(scores: Float[Array | np.ndarray, "..."], labels: Array | np.ndarray) -> Bool[Array | np.ndarray, "..."]:
    """Predictions on their label's side of 0; a score of 0 is for label 0. Labels are 0 or 1."""
    return (scores > 0) == (labels > 0.5)


@jax.jit
def accuracy(
    scores: Float[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """Computes the weighted share of predictions that are right, see `is_right`."""
    return _pooled(is_right(scores, labels), weights)


@jax.jit
def log_loss(
    scores: Float[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """Computes the weighted mean cross-entropy of labels and predictions, in nats."""
    return _pooled(jax.nn.softplus(scores * (1 - 2 * labels)), weights)


@jax.jit
def auroc(
    scores: Float[Array, "R N"], folds: Int[Array, "R N"], labels: Float[Array, " N"], weights: Float[Array, "B N"]
) -> Float[Array, " B"]:
    """Computes the chance that, of two rows held out together, that of label 1 scores higher; ties count half.

    Only scores of one fit are comparable, so pairs are within a fold of a repeat; folds count by their number of pairs.

    Returns:
        NaN for weights that leave no such pair.
    """
    above, pairs = jax.lax.map(lambda repeat: _concordant(repeat[0], repeat[1], labels, weights.T), (scores, folds))
    return above.sum(axis=0) / pairs.sum(axis=0)


def linear_auroc(
    scores: Float[Array | np.ndarray, "L N"],
    labels: Float[Array | np.ndarray, " N"],
    counted: Bool[Array, " N"],
    weights: Float[Array, "B N"],
) -> Float[Array, "L B"]:
    """AUROC of rows scored by one fit: exact under the first weighting, and of the others to first order.

    Linear in the weights through each row's share of pairs (DeLong et al. 1988).

    Args:
        counted: the rows that pairs are made of.
        weights: of the rows, ones first; 0 where a row does not count.

    Returns:
        NaN where there is no pair.
    """
    ones = jnp.asarray(labels) > 0.5
    shares = jax.vmap(lambda row: _pair_shares(row, ones, counted))(scores)
    one, zero = (_weighted_means(shares, weights * side) for side in (labels, 1 - labels))
    area = one[:, :1]
    drawn = jnp.clip(one[:, 1:] + zero[:, 1:] - area, 0, 1)
    return jnp.concatenate([area, drawn], axis=1)


def label_entropy(labels: Float[Array, " N"], weights: Float[Array, "B N"]) -> Float[Array, " B"]:
    """Computes the entropy of the labels, in nats."""
    one = jnp.dot(weights, labels, precision=HIGHEST) / weights.sum(axis=1)
    return jax.scipy.special.entr(one) + jax.scipy.special.entr(1 - one)


def _pooled(values: Array | np.ndarray, weights: Float[Array, "B N"]) -> Float[Array, " B"]:
    """Computes the weighted mean over rows and repeats."""
    return jnp.dot(weights, values.mean(axis=0), precision=HIGHEST) / weights.sum(axis=1)


def _pair_shares(scores: Float[Array, " N"], ones: Bool[Array, " N"], counted: Bool[Array, " N"]) -> Float[Array, " N"]:
    """Computes for each row the share of rows of the other label on the right side of it, ties counting half.

    Its mean over the rows of either label is the AUROC; NaN where the other label has no row.
    """

    def below(rows: Bool[Array, " N"]) -> Float[Array, " N"]:
        # Rows that do not count are beyond all scores.
        ordered = jnp.sort(jnp.where(rows, scores, jnp.inf))
        sides = (jnp.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
        return sum(sides) / 2 / jnp.sum(rows)

    return jnp.where(ones, below(counted & ~ones), 1 - below(counted & ones))


def _weighted_means(values: Float[Array, "L N"], weights: Float[Array, "B N"]) -> Float[Array, "L B"]:
    return jnp.matmul(values, weights.T, precision=HIGHEST) / jnp.sum(weights, axis=1)


def _concordant(
    scores: Float[Array, " N"], folds: Int[Array, " N"], labels: Float[Array, " N"], weights: Float[Array, "N B"]
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Sums one repeat's weighted pairs in which label 1 scores higher, and all pairs, by one sort and running sums."""
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
