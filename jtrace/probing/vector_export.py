"""One vector of a file, written in the format that another tool reads. Axes: L layers, D width."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from jtrace.errors import InputError
from jtrace.probing.vector_files import Vectors
from jtrace.probing.vector_formats import format_to_write
from jtrace.probing.vector_formats.content import LayerVector
from jtrace.runtime.atomic import atomic_write


def write_vector(path: Path, vectors: Vectors, to: str | None = None, strength: float = 1.0) -> None:
    """Writes strength × vector in its layers, whole or not at all; `read_vectors` reads the product back.

    Formats that have a place for the strength (lm-eval's coefficient) hold vector and strength apart.

    Args:
        path: a file that is there is replaced.
        vectors: of one set.
        to: a format of `jtrace.probing.vector_formats.FORMATS`; None for that of the suffix.
        strength: what other tools shall add for their strength 1.

    Raises:
        InputError: several sets, a strength that is 0 or not finite, a format that does not fit the suffix or cannot
            hold the vector, or values beyond float32.
        WriteError: the disk is full, read-only or gone.
    """
    content = vector_content(path, vectors, to, strength)
    with atomic_write(path) as aside:
        aside.write_bytes(content)


def vector_content(path: Path, vectors: Vectors, to: str | None = None, strength: float = 1.0) -> bytes:
    """Encodes strength × vector as the bytes that `write_vector` would write; arguments and errors as there."""
    how = format_to_write(path, to)
    if len(vectors.arrays) != 1:
        raise InputError(f"{path}: holds one vector, not those of {', '.join(vectors.arrays)}; choose a set")
    if not math.isfinite(strength) or not strength:
        raise InputError(f"{path}: a strength of {strength} makes no vector; give a finite number other than 0")
    (array,) = vectors.arrays.values()
    with np.errstate(over="ignore"):  # refused below
        product = vectors.times(strength)
    if not np.isfinite(next(iter(product.arrays.values()))).all():
        raise InputError(f"{path}: strength {strength:g} times the vector is beyond float32; choose a smaller one")
    rows = dict(sorted(zip(vectors.layers, np.ascontiguousarray(array, np.float32), strict=True)))
    model_type = vectors.model.model_type if vectors.model else None
    return how.encode(LayerVector(rows, strength, json.dumps(_about(product, strength)), model_type))


def _about(product: Vectors, strength: float) -> dict[str, object]:
    """Metadata of strength × vector, in the order of its layers, as JSON values."""
    ((name, array),) = product.arrays.items()
    order = np.argsort(product.layers)
    about: dict[str, object] = {
        "checkpoint": product.checkpoint,
        "set": name,
        "layers": [product.layers[at] for at in order],
        "strength": strength,
        "norm": np.linalg.norm(array[order].astype(np.float64), axis=1).tolist(),
        "label_one_is_good": dict(product.one_is_good),
    }
    if product.kind is not None:
        about["kind"] = product.kind
    if product.model is not None:
        about["model"] = dataclasses.asdict(product.model)
    if product.plain_norms is not None:
        about["plain_norm"] = {key: norms[order].tolist() for key, norms in product.plain_norms.items()}
    return about
