"""Torch checkpoints (`.bin`, `.pt`), read without torch and without running anything they hold.

Such a file is a zip archive: `data.pkl` is a pickle that describes the tensors, `data/<key>` are their bytes.
"""

import struct
import warnings
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jtrace.checkpoints.formats.mapped_file import MappedFile, Placement, TensorInfo, array_at, is_shape, quote
from jtrace.checkpoints.formats.pickle_reader import RefusedError, evaluate
from jtrace.errors import InputError
from jtrace.runtime.small_files import read_small

_LARGEST_PICKLE = 16 << 20
_LONGEST_BYTEORDER = 16
_LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s4xH16xHH")  # Magic, method, sizes of name and extra field.
_ENCRYPTED, _UTF8 = 0x1, 0x800


class _Global(Enum):
    ORDERED_DICT = "collections.OrderedDict"
    TENSOR = "torch.Tensor"
    PARAMETER = "torch.nn.parameter.Parameter"
    REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
    REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
    REBUILD_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"


_STORAGES: dict[str, np.dtype[Any]] = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}
_NAMES: dict[str, object] = {**{known.value: known for known in _Global}, **_STORAGES}


class TorchFile(MappedFile):
    """A torch checkpoint that is a flat dict of tensors.

    Args:
        path: A file written by `torch.save`.

    Raises:
        InputError: The file is missing, damaged, not such a checkpoint, or names anything but plain tensors.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _find_tensors)


def read_dicts(path: Path) -> dict[str, dict[str, object]]:
    """Reads a small torch file that is a dict of dicts, tensors as read-only arrays, all else as it is.

    Raises:
        InputError: As `TorchFile`, or it is too large or no dict of dicts.
    """
    data = np.frombuffer(read_small(path), np.uint8)
    content = _evaluate(path, data)
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise InputError(f"{path}: holds no dict of dicts; save it again with torch.save")
    return {
        str(name): {
            str(key): array_at(value, data) if isinstance(value, Placement) else value for key, value in inner.items()
        }
        for name, inner in content.items()
    }


def _find_tensors(path: Path, data: np.ndarray) -> dict[str, Placement]:
    state = _evaluate(path, data)
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {_kind(state)}, not a dict of tensors; save a flat state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Placement):
            raise InputError(
                f"{path}: key {quote(str(name))} holds a {_kind(value)}, not a tensor; save a flat state dict"
            )
    return state


def _evaluate(path: Path, data: np.ndarray) -> object:
    """Returns what a file's pickle stands for, tensors as their placements."""
    records = _records(path, data)
    tops = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(tops) != 1:
        raise InputError(
            f"{path}: has {len(tops)} data.pkl records, not 1, so torch.save did not write it; fetch it again"
        )
    archive = _Archive(path, data, records, tops[0])
    if f"{tops[0]}byteorder" in records and archive.read("byteorder", _LONGEST_BYTEORDER) != b"little":
        raise InputError(f"{path}: its byte order is not little; save it again on a little-endian machine")
    try:
        # pickletools warns of escapes in damaged text opcodes.
        with warnings.catch_warnings(action="ignore"):
            return evaluate(archive.read("data.pkl", _LARGEST_PICKLE), _NAMES, archive.load, archive.call)
    except RefusedError as error:
        raise InputError(f"{path}: {error}, which plain tensors never need; do not trust this file") from error
    except (ValueError, LookupError) as error:
        raise archive.damaged(f"data.pkl is not a sound pickle ({quote(str(error))})") from error


def _records(path: Path, data: np.ndarray) -> dict[str, zipfile.ZipInfo]:
    if data[:1].tobytes() == b"\x80":
        again = "torch.save(torch.load(path, weights_only=True), path)"
        raise InputError(f"{path}: is in torch's old format, not a zip archive; re-save it with {again}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    # On a damaged directory zipfile may raise nearly any type.
    except Exception as error:
        raise InputError(
            f"{path}: is no zip archive or its directory is damaged ({quote(str(error))}); fetch it again"
        ) from error
    for entry in entries:
        packed = entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size
        if packed or entry.flag_bits & _ENCRYPTED:
            raise InputError(
                f"{path}: record {quote(entry.filename)} is compressed or encrypted; save it again with torch.save"
            )
    records = {entry.filename: entry for entry in entries}
    if len(records) < len(entries):
        raise InputError(f"{path}: two of its records share a name; fetch it again")
    return records


@dataclass(frozen=True)
class _Storage:
    dtype: np.dtype[Any]
    start: int
    numel: int


@dataclass(frozen=True)
class _Archive:
    path: Path
    data: np.ndarray
    records: dict[str, zipfile.ZipInfo]
    top: str

    def damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: {what}; fetch it again or save it again with torch.save")

    def read(self, name: str, limit: int) -> bytes:
        start, size = self.locate(name)
        if size > limit:
            raise self.damaged(f"record {quote(name)} has {size} bytes, above the limit of {limit}")
        return self.data[start : start + size].tobytes()

    def locate(self, name: str) -> tuple[int, int]:
        """Returns start and number of a record's bytes, after checking that they exist."""
        entry = self.records.get(self.top + name)
        if entry is None:
            raise self.damaged(f"record {quote(name)} is missing")
        at_name = entry.header_offset + _LOCAL_HEADER.size
        if entry.header_offset >= 0 and at_name <= self.data.size:
            header = self.data[entry.header_offset : at_name].tobytes()
            magic, method, name_size, extra_size = _LOCAL_HEADER.unpack(header)
            local_name = self.data[at_name : at_name + name_size].tobytes()
            start = at_name + name_size + extra_size
            agrees = (magic, method) == (_LOCAL_MAGIC, zipfile.ZIP_STORED) and local_name == _encoded_name(entry)
            if agrees and start + entry.file_size <= self.data.size:
                return start, entry.file_size
        raise self.damaged(f"record {quote(name)} is not where the zip directory says")

    def load(self, reference: object) -> _Storage:
        """Resolves a persistent id to the bytes that it names."""
        match reference:
            case ("storage", np.dtype() as dtype, str(key), str(), int(numel)):
                start, size = self.locate(f"data/{key}")
                if size == numel * dtype.itemsize:
                    return _Storage(dtype, start, numel)
                raise self.damaged(f"record {quote('data/' + key)} has {size} bytes, not {numel} elements of {dtype}")
        raise self.damaged("data.pkl refers to a storage in an unknown way")

    def call(self, function: object, args: object) -> object:
        """Returns what calling one of the known functions would return."""
        match function, args:
            case _Global.ORDERED_DICT, ():
                return {}
            case _Global.REBUILD_TENSOR, (_Storage() as storage, offset, tuple(shape), tuple(stride), _, _, *metadata):
                if any(metadata):
                    raise InputError(f"{self.path}: holds a lazily negated tensor; save it again after resolve_neg()")
                return self.tensor(storage, offset, shape, stride)
            case _Global.REBUILD_PARAMETER, (Placement() as tensor, _, _):
                return tensor
            case _Global.REBUILD_FROM_TYPE, (inner, _Global.TENSOR | _Global.PARAMETER, tuple(inner_args), _):
                if inner in (_Global.REBUILD_TENSOR, _Global.REBUILD_PARAMETER):
                    return self.call(inner, inner_args)
        raise self.damaged(f"data.pkl calls {_kind(function)} in an unknown way")

    def tensor(self, storage: _Storage, offset: Any, shape: tuple[Any, ...], stride: tuple[Any, ...]) -> Placement:
        itemsize = storage.dtype.itemsize
        numbers = all(type(number) is int and number >= 0 for number in (offset, *stride))
        if not (numbers and len(shape) == len(stride) and is_shape(shape, storage.dtype, self.data.size)):
            raise self.damaged("a tensor in data.pkl has an impossible offset, shape or stride")
        reach = 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if offset + reach > storage.numel:
            raise self.damaged(f"a tensor in data.pkl reaches element {offset + reach} of {storage.numel}")
        # A dimension of one element may have any stride, which numpy need not accept.
        strides = tuple(step * itemsize if size > 1 else 0 for size, step in zip(shape, stride, strict=True))
        return Placement(TensorInfo(shape, storage.dtype), storage.start + offset * itemsize, strides)


def _encoded_name(entry: zipfile.ZipInfo) -> bytes:
    return entry.orig_filename.encode("utf-8" if entry.flag_bits & _UTF8 else "cp437")


def _kind(value: object) -> str:
    match value:
        case Placement():
            return "tensor"
        case _Global():
            return value.value
    return type(value).__name__.strip("_")
