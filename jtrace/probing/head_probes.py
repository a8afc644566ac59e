"""Probes of attention heads one by one, and the vector of the best: inference-time intervention (arXiv 2306.03341).

Axes: N rows, A heads of a layer, H head_dim, L layers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.gram import HIGHEST
from jtrace.kernels.logistic import fit_logistic
from jtrace.kernels.standardise import scaled, training_scale
from jtrace.probing.vectors import mass_mean_vector


@jax.jit
def head_accuracies(
    heads: Float[Array, "N A H"], labels: Float[Array, " N"], train: Int[Array, " P"], test: Int[Array, " Q"]
) -> tuple[Float[Array, " A"], Bool[Array, " A"]]:
    """Fits a probe to each head of one layer, C = 1 on features scaled by the training rows.

    Returns:
        Accuracy on the test rows, and whether the fit is at its optimum.
    """

    def fit_one(head: Float[Array, "N H"]) -> tuple[Array, Array]:
        z = scaled(head, *training_scale(head[train], jnp.ones(train.shape[0], head.dtype)))
        fit = fit_logistic(z[train], labels[train])
        scores = jnp.matmul(z[test], fit.weights, precision=HIGHEST) + fit.intercept
        return jnp.mean((scores > 0) == (labels[test] > 0.5)), fit.converged

    return jax.lax.map(fit_one, jnp.moveaxis(heads.astype(jnp.float32), 1, 0))


def best_heads(accuracies: Float[np.ndarray, "L A"], count: int) -> Bool[np.ndarray, "L A"]:
    """Marks the heads with the highest accuracies; of equal ones those of lower layers and numbers."""
    order = np.argsort(-accuracies, axis=None, kind="stable")[:count]
    marks = np.zeros(accuracies.size, bool)
    marks[order] = True
    return marks.reshape(accuracies.shape)


@jax.jit
def head_vectors(
    heads: Float[Array, "N A H"], labels: Float[Array, " N"], leading: Bool[Array, " N"]
) -> Float[Array, "A H"]:
    """Makes each head's vector: the unit difference of class means, times the deviation of the projections on it."""
    return jax.vmap(mass_mean_vector, (1, None, None))(heads.astype(jnp.float32), labels, leading)
