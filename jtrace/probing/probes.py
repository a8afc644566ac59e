"""The published linear probe of a layer. Axes: N rows, M test rows, D width."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jtrace.kernels.logistic import decision, fit_logistic
from jtrace.stats.heldout_metrics import accuracy, auroc


class ProbeScores(NamedTuple):
    """Accuracy and AUROC of a probe on held-out rows, whether its solver reached the optimum, and log-odds of rows."""

    accuracy: Float[Array, ""]
    auroc: Float[Array, ""]
    converged: Bool[Array, ""]
    scores: Float[Array, " M"]


def paper_probe(
    train: Float[Array, "N D"],
    train_labels: Float[Array, " N"],
    test: Float[Array, "M D"],
    test_labels: Float[Array, " M"],
) -> ProbeScores:
    """Logistic probe with C = 1 on standardised features, as published, at its optimum."""
    fit = fit_logistic(train, train_labels)
    scores = decision(test, fit)[None]
    evenly, one_fold = jnp.ones_like(scores), jnp.zeros(scores.shape, jnp.int32)
    (right,), (area,) = accuracy(scores, test_labels, evenly), auroc(scores, one_fold, test_labels, evenly)
    return ProbeScores(right, area, fit.converged, scores[0])
