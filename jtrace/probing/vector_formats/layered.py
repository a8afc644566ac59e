"""Safetensors of vectors: those of `RUN/vectors` are read, and those with a key for each layer, which are written."""

from pathlib import Path

from safetensors.numpy import save

from jtrace.probing.vector_formats.content import VECTORS_KEY, FileContent, LayerVector, layer_key
from jtrace.runtime.safetensors_file import open_arrays


def encode(vector: LayerVector) -> bytes:
    """Makes a file of `layer.{k}` [D], strength × vector of the output of block k."""
    return save({layer_key(layer): row for layer, row in vector.scaled.items()}, {VECTORS_KEY: vector.about})


def read(path: Path) -> FileContent:
    """Reads all arrays of a file.

    Raises:
        MissingFileError, InputError: as `open_arrays`.
    """
    with open_arrays(path, "cannot be read as vectors", "trace its checkpoint again") as file:
        about = (file.metadata() or {}).get(VECTORS_KEY, "{}")
        return FileContent({name: file.get_tensor(name) for name in sorted(file.keys())}, about)
