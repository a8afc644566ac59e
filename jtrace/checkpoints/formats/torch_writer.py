"""Torch files written without torch, in the layout of `torch.save`: a zip archive of a pickle and of tensors' bytes."""

import io
import math
import pickle
import zipfile
from collections.abc import Mapping

import numpy as np

_BYTES = "data/{}"


def torch_bytes(content: Mapping[str, object]) -> bytes:
    """Makes a file that `torch.load(weights_only=True)` opens; the same content gives the same bytes.

    Args:
        content: texts, numbers, truth values, None, float32 arrays (which become tensors), and such mappings of them.

    Source: torch 2.13's `torch/serialization.py`: a storage is a persistent id, rebuilt by `_rebuild_tensor_v2`.
    """
    arrays: list[np.ndarray] = []
    pickled = b"\x80\x02" + _opcodes(content, arrays) + b"."
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        records = {"data.pkl": pickled, "byteorder": b"little"}
        records |= {_BYTES.format(at): array.tobytes() for at, array in enumerate(arrays)}
        for name, record in (records | {"version": b"3\n"}).items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), record)
    return made.getvalue()


def _opcodes(value: object, arrays: list[np.ndarray]) -> bytes:
    """The opcodes that push a value; its arrays are put behind those that are there."""
    if isinstance(value, Mapping):
        return b"}(" + b"".join(_plain(key) + _opcodes(item, arrays) for key, item in value.items()) + b"u"
    if isinstance(value, np.ndarray):
        arrays.append(value.astype("<f4"))
        return _tensor(value, str(len(arrays) - 1))
    return _plain(value)


def _tensor(array: np.ndarray, key: str) -> bytes:
    strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
    storage = (
        b"(" + _plain("storage") + b"ctorch\nFloatStorage\n" + b"".join(map(_plain, (key, "cpu", array.size))) + b"tQ"
    )
    hooks = b"ccollections\nOrderedDict\n)R"
    place = b"".join(map(_plain, (0, array.shape, strides, False)))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + hooks + b"tR"


def _plain(value: object) -> bytes:
    """A pickle of protocol 2 without its beginning and end."""
    return pickle.dumps(value, 2)[2:-1]
