"""Steering vectors in Python: made of activations, read from files. Axes: L layers, D width."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jtrace.api.activations import Activations, as_activations, check_same
from jtrace.api.arguments import in_python_words
from jtrace.data.splits import leading_rows
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.probing.vector_files import Vectors, read_vectors
from jtrace.probing.vectors import KINDS, MASS_MEAN
from jtrace.runs.names import VectorName
from jtrace.steering.vector import SteeringVector


@in_python_words
def steering_vector(
    activations: Activations | Any, statements: Statements, kind: str = MASS_MEAN, *, fraction: float | None = None
) -> SteeringVector:
    """Makes the steering vector of every layer, which points to label 1.

    Args:
        activations: of `Model.activations`, or an array [layer, statement, width] of one's own, layer 0 first.
        statements: the same statements, with their labels.
        kind: of `jtrace.probing.vectors.KINDS`; `mass_mean` is the published one.
        fraction: leading share of the rows that it is made of, so that the others can be evaluated on; as published if
            None (half of them, of TruthfulQA all).

    Raises:
        InputError: activations and statements do not belong together, a label that the leading rows lack, or a vector
            that is not finite.
    """
    given = as_activations(activations)
    check_same(given, statements)
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}: known are {', '.join(KINDS)}")
    leading = leading_mask(statements, fraction)
    rows = (jnp.asarray(given.members), jnp.asarray(statements.labels, jnp.float32), jnp.asarray(leading))
    origin = given.origin
    depth = origin.model.depth if origin else given.residuals.shape[0]
    values = np.zeros((depth, given.residuals.shape[2]), np.float32)
    for layer in given.layers:
        values[layer] = _vector(given.residuals, np.int32(layer), *rows, kind=kind)
        if not np.isfinite(values[layer]).all():
            raise InputError(f"{statements.name}: the {kind} vector of layer {layer} is not finite")
    of_kind = kind if given.read.pooling == "last" else f"{kind}-{given.read.pooling}"
    name = VectorName(origin.ref.name if origin else "", "" if of_kind == MASS_MEAN else of_kind)
    good = statements.info.one_is_good if statements.info else None
    return SteeringVector(
        values,
        tuple(sorted(given.layers)),
        str(name),
        statements.name,
        good,
        model=origin.model if origin else None,
        site=given.read.site,
    )


def leading_mask(statements: Statements, fraction: float | None) -> Bool[np.ndarray, " N"]:
    """Marks the leading share of rows that vectors are made of; as published if None.

    Raises:
        InputError: a share that is none, or a label that these rows lack.
    """
    share = statements.vector_fraction if fraction is None else fraction
    if not 0 < share <= 1:
        raise InputError(f"fraction={fraction}: give a share above 0, and at most 1")
    leading = np.zeros(len(statements), bool)
    leading[leading_rows(statements.labels, share, statements.source)] = True
    return leading


@partial(jax.jit, static_argnames="kind")
def _vector(residuals: Array, layer: Array, members: Array, labels: Array, leading: Array, *, kind: str) -> Array:
    return KINDS[kind].vector(residuals[layer][members].astype(jnp.float32), labels, leading)


@in_python_words
def load_vectors(path: str | Path) -> dict[str, SteeringVector]:
    """Reads the vectors of a file, by statement set: of a run, of `SteeringVector.save`, or of another tool.

    Raises:
        InputError: the file is missing, damaged, or does not say which layers its vectors are of.
    """
    vectors = read_vectors(Path(path))
    return {name: _of_file(vectors, name, array) for name, array in vectors.arrays.items()}


def _of_file(vectors: Vectors, name: str, array: Float[np.ndarray, "L D"]) -> SteeringVector:
    depth = vectors.model.depth if vectors.model else max(vectors.layers) + 1
    values = np.zeros((depth, array.shape[1]), np.float32)
    values[list(vectors.layers)] = array
    source = str(VectorName(vectors.checkpoint, "" if vectors.kind in (None, MASS_MEAN) else vectors.kind or ""))
    return SteeringVector(
        values, tuple(sorted(vectors.layers)), source, name, vectors.one_is_good[name], model=vectors.model
    )
