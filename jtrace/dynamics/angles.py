"""Angles between steering vectors, and between the spaces that several of them span.

Axes: D width, k and m numbers of vectors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.linalg import orth

from jtrace.dynamics.trajectory import Trajectory, best_layer, evenly_chosen, shared_layer
from jtrace.probing.vector_files import Vectors

ANGLES = (
    "model",
    "kind",
    "dataset",
    "other_dataset",
    "checkpoint",
    "other_checkpoint",
    "layer",
    "other_layer",
    "cosine",
)
SUBSPACES = ("model", "layer", "checkpoint", "other_checkpoint", "number", "degrees")
# The most checkpoints, and the most layers, of a map: a larger one cannot be read.
MOST_COMPARED = 12
# Vectors are float32: directions below this share of the longest are rounding.
RANK_TOLERANCE = 1e-5
# The place of a vector: set, checkpoint and layer.
Place = tuple[str, str, int]


def cosine(a: Float[np.ndarray, "*N D"], b: Float[np.ndarray, "*N D"]) -> Float[np.ndarray, "*N"]:
    """Computes cosines of the angles between vectors, in float64; 0 where a vector is 0."""
    return np.asarray(np.clip(np.sum(_units(a) * _units(b), axis=-1), -1, 1))


def principal_angles(a: Float[np.ndarray, "k D"], b: Float[np.ndarray, "m D"]) -> Float[np.ndarray, " angles"]:
    """Computes principal angles between the spaces that the rows of two arrays span, small ones to full precision.

    It takes sines below 45 degrees and cosines above (Björck and Golub 1973); scipy.linalg.subspace_angles mixes the
    two up where a pair of spaces has angles of both kinds. Only directions of vectors count; one that is 0 or depends
    on others adds nothing.

    Returns:
        Degrees, ascending, float64; as many as the smaller space has dimensions.
    """
    bases = (orth(_units(vectors).T, rcond=RANK_TOLERANCE) for vectors in (a, b))
    small, large = sorted(bases, key=lambda basis: basis.shape[1])
    within = large.T @ small
    # Both in order of ascending angles.
    cosines = np.clip(np.linalg.svd(within, compute_uv=False), 0, 1)
    sines = np.clip(np.linalg.svd(small - large @ within, compute_uv=False)[::-1], 0, 1)
    return np.degrees(np.where(cosines**2 > 0.5, np.arcsin(sines), np.arccos(cosines)))


def _units(vectors: Float[np.ndarray, "*N D"]) -> Float[np.ndarray, "*N D"]:
    vectors = vectors.astype(np.float64)
    # Scaled to at most 1 first: squares of tiny entries would vanish.
    largest = np.max(np.abs(vectors), axis=-1, keepdims=True)
    vectors = vectors / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def angles(curve: Trajectory, others: Sequence[str], read: Callable[[str], Vectors | None]) -> pd.DataFrame:
    """Computes cosines between the vectors of a model's checkpoints, layers and sets, each pair once.

    Kind `checkpoints` compares checkpoints at each set's best layer, and the last one with models that were traced
    once, such as a chat model made from it. Kind `layers` compares layers of the last checkpoint, kind `sets` two sets
    at one layer of one checkpoint. At most `MOST_COMPARED` checkpoints and layers are taken, evenly chosen.

    Args:
        others: names of the checkpoints that were traced once.
        read: a checkpoint's name → its vectors; None where there are none.

    Returns:
        The columns `ANGLES`.
    """
    held = _held(curve, read)
    if not held:
        return pd.DataFrame(columns=list(ANGLES))
    last = list(held)[-1]
    final = held[last]
    made_of_it = {
        name: vectors for name in others if (vectors := read(name)) is not None and _comparable(vectors, final)
    }
    rows: list[tuple[object, ...]] = []
    for dataset in final.arrays:
        layer = best_layer(curve.rows, dataset)
        if layer is not None:
            along = combinations([(dataset, name, layer) for name in held], 2)
            beyond = (((dataset, last, layer), (dataset, name, layer)) for name in made_of_it)
            rows += _pairs("checkpoints", (*along, *beyond), held | made_of_it)
        across = [(dataset, last, number) for number in evenly_chosen(sorted(final.layers), MOST_COMPARED)]
        rows += _pairs("layers", combinations(across, 2), held)
    shared = shared_layer(curve.rows)
    if shared is not None:
        for name in held:
            rows += _pairs("sets", combinations([(dataset, name, shared) for dataset in final.arrays], 2), held)
    table = pd.DataFrame(rows, columns=list(ANGLES)[1:])
    table.insert(0, "model", curve.model)
    return table


def subspaces(curve: Trajectory, read: Callable[[str], Vectors | None]) -> pd.DataFrame:
    """Computes principal angles between the span of all sets' vectors at each chosen checkpoint and at the last one.

    Returns:
        The columns `SUBSPACES`; `number` counts the angles of a pair from 1, the smallest first.
    """
    held, layer = _held(curve, read), shared_layer(curve.rows)
    rows: list[tuple[object, ...]] = []
    if held and layer is not None:
        last = list(held)[-1]
        for name in list(held)[:-1]:
            shared = [dataset for dataset in held[last].arrays if dataset in held[name].arrays]
            spans = [[_vector(held, (dataset, one, layer)) for dataset in shared] for one in (name, last)]
            present = [[vector for vector in span if vector is not None] for span in spans]
            if not all(present):
                continue
            degrees = principal_angles(np.stack(present[0]), np.stack(present[1]))
            rows += [(curve.model, layer, name, last, number, float(d)) for number, d in enumerate(degrees, 1)]
    return pd.DataFrame(rows, columns=list(SUBSPACES))


def _held(curve: Trajectory, read: Callable[[str], Vectors | None]) -> dict[str, Vectors]:
    """Reads vectors of evenly chosen checkpoints, in order, leaving out those that do not compare with the last."""
    chosen = evenly_chosen(curve.checkpoints, MOST_COMPARED)
    held = {name: vectors for name in chosen if (vectors := read(name)) is not None}
    return {name: vectors for name, vectors in held.items() if _comparable(vectors, list(held.values())[-1])}


def _comparable(one: Vectors, other: Vectors) -> bool:
    """Returns whether both are vectors of models of one kind and size."""
    widths = {array.shape[1] for vectors in (one, other) for array in vectors.arrays.values()}
    return one.model == other.model and len(widths) == 1


def _vector(held: Mapping[str, Vectors], place: Place) -> np.ndarray | None:
    dataset, name, layer = place
    vectors = held[name]
    if dataset not in vectors.arrays or layer not in vectors.layers:
        return None
    return vectors.arrays[dataset][vectors.layers.index(layer)]


def _pairs(
    kind: str, pairs: Iterable[tuple[Place, Place]], held: Mapping[str, Vectors]
) -> Iterator[tuple[object, ...]]:
    for one, other in pairs:
        a, b = _vector(held, one), _vector(held, other)
        if a is not None and b is not None:
            yield kind, one[0], other[0], one[1], other[1], one[2], other[2], float(cosine(a, b))
