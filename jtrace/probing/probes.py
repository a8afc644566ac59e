"""Linear probes: how separable is a concept in a layer? Axes: N rows, M test rows, D width."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jtrace.kernels.logistic import decision, fit_logistic


class ProbeScores(NamedTuple):
    """A probe's scores on held-out rows, and whether its solver reached the optimum."""

    accuracy: Float[Array, ""]
    auroc: Float[Array, ""]
    converged: Bool[Array, ""]


def accuracy(scores: Float[Array, " M"], labels: Float[Array, " M"]) -> Float[Array, ""]:
    """Share of rows on their label's side of 0."""
    return jnp.mean((scores > 0) == (labels > 0.5))


def auroc(scores: Float[Array, " M"], labels: Float[Array, " M"]) -> Float[Array, ""]:
    """Chance that a row of label 1 scores above one of label 0, ties counting half; NaN if a class is missing."""
    above = (scores[:, None] > scores[None, :]) + 0.5 * (scores[:, None] == scores[None, :])
    pairs = labels[:, None] * (1 - labels)[None, :]
    return jnp.sum(above * pairs) / jnp.sum(pairs)


def paper_probe(
    train: Float[Array, "N D"],
    train_labels: Float[Array, " N"],
    test: Float[Array, "M D"],
    test_labels: Float[Array, " M"],
) -> ProbeScores:
    """Logistic probe with C = 1 on standardised features, as published, at its optimum."""
    fit = fit_logistic(train, train_labels)
    scores = decision(test, fit)
    return ProbeScores(accuracy(scores, test_labels), auroc(scores, test_labels), fit.converged)
