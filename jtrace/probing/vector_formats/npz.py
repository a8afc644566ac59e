"""numpy archives (`.npz`) of vectors: `layer.{k}` [D], or `set` [L, D]; metadata is a text under the key `jtrace`.

Nothing is unpickled, and arrays are held against the bytes that are there before they are made: an archive of a few
bytes may stand for gigabytes.
"""

import io
import math
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np

from jtrace.errors import InputError
from jtrace.probing.vector_formats.content import VECTORS_KEY, FileContent, LayerVector, layer_key
from jtrace.runtime.foreign import COPY_AGAIN, foreign
from jtrace.runtime.small_files import LARGEST_SMALL, read_small

MOST_ARRAYS = 10_000
_SUFFIX = ".npy"


def encode(vector: LayerVector) -> bytes:
    """Makes a file that `numpy.load` opens: strength × vector of each layer; the same vector gives the same bytes."""
    arrays = {layer_key(layer): row for layer, row in vector.scaled.items()} | {VECTORS_KEY: np.array(vector.about)}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(name + _SUFFIX), entry.getvalue())
    return made.getvalue()


def read(path: Path) -> FileContent:
    """Reads all arrays of a file.

    Raises:
        MissingFileError, InputError: as `read_small`, or it is damaged, holds pickled objects, or is more than 67 MB
            when unpacked.
    """
    content = read_small(path)
    # numpy's header is a Python literal; damaged ones warn of escapes.
    with foreign(path, "cannot be read as vectors"), warnings.catch_warnings(action="ignore"):
        arrays = _arrays(path, content)
        about = str(arrays.pop(VECTORS_KEY, np.array("{}"))[()])
    return FileContent(dict(sorted(arrays.items())), about)


def _arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        size = sum(entry.file_size for entry in entries)
        if len(entries) > MOST_ARRAYS or size > LARGEST_SMALL:
            raise InputError(
                f"{path}: stands for {len(entries)} arrays of {size} bytes, above the {MOST_ARRAYS} and "
                f"{LARGEST_SMALL} that vectors may have; {COPY_AGAIN}"
            )
        return {entry.filename.removesuffix(_SUFFIX): _array(archive.read(entry)) for entry in entries}


def _array(content: bytes) -> np.ndarray:
    """The array of a `.npy` text.

    Raises:
        ValueError: it is none, holds another number of bytes than its shape says, or a text that is none.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"arrays of version {version}")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(stream)
    if dtype.hasobject or dtype.kind not in "fU":
        raise ValueError(f"an array of {dtype}")
    values = content[stream.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{len(values)} bytes for an array of shape {list(shape)}")
    # numpy makes a Python text of any codes, and Python fails at it anywhere later.
    if dtype.kind == "U" and np.frombuffer(values, dtype.str[0] + "u4").max(initial=0) > sys.maxunicode:
        raise ValueError("a text with characters that Unicode does not have")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if by_columns else "C")
