"""The one vector that a set, or a sum of sets, has in some layers of a file. Axes: L layers, D width."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from jtrace.errors import InputError
from jtrace.probing.vector_files import Vectors
from jtrace.steering.vector import SteeringVector, combined, layer_ranges


def chosen_vector(vectors: Vectors, path: Path, expression: str, layers: Collection[int] | None = None) -> Vectors:
    """Vectors of one set alone: a set's, or a sum as `combined` reads it.

    Args:
        path: of the file.
        layers: to keep; None keeps all.

    Raises:
        InputError: the file lacks a set or a layer, or does not say which layers its rows are of.
    """
    if not vectors.layers_known:
        last = len(vectors.layers) - 1
        raise InputError(
            f"{path}: does not say which layers its {last + 1} rows are of; name each by --vector_layers, as 0-{last}"
        )
    if missing := sorted(set(layers or ()) - set(vectors.layers)):
        raise InputError(f"{path}: has no layer {missing[0]}; it has {layer_ranges(vectors.layers)}")
    rows = [at for at, layer in enumerate(vectors.layers) if layers is None or layer in layers]
    # Rows are of these layers alone: the algebra of steering vectors needs no others.
    by_set = {
        name: SteeringVector(array[rows], tuple(vectors.layers[at] for at in rows), "", name, vectors.one_is_good[name])
        for name, array in vectors.arrays.items()
    }
    vector = combined(expression, by_set)
    norms = vectors.plain_norms
    return replace(
        vectors,
        arrays={vector.dataset: np.asarray(vector.values, np.float32)},
        layers=vector.layers,
        one_is_good={vector.dataset: vector.one_is_good},
        # A sum has no plain difference of class means.
        plain_norms={expression: norms[expression][rows]} if norms and expression in norms else None,
    )
