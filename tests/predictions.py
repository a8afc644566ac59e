"""Predictions of held-out rows, as metrics take them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class HeldOut(NamedTuple):
    scores: jax.Array
    folds: jax.Array
    labels: jax.Array


def held_out(scores, labels, folds=None):
    """Predictions by one repeat, [N], or several, [R, N], of one fold unless told."""
    scores = jnp.atleast_2d(jnp.asarray(scores, jnp.float32))
    folds = jnp.zeros(scores.shape, int) if folds is None else jnp.atleast_2d(jnp.asarray(folds))
    return HeldOut(scores, folds, jnp.asarray(labels, jnp.float32))
