"""The weights of a Hugging Face folder: the choice of their files, each opened as a memory map."""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jtrace.checkpoints.formats.mapped_file import MappedFile, Placement, TensorInfo, WeightFile, is_shape, quote
from jtrace.checkpoints.formats.torch_file import TorchFile
from jtrace.errors import InputError
from jtrace.hub.files import WEIGHT_FILES
from jtrace.runtime.safetensors_file import LARGEST_HEADER
from jtrace.runtime.small_files import parse_json, read_small

__all__ = [
    "SafetensorsFile",
    "TensorInfo",
    "WeightFile",
    "iter_weight_files",
    "open_weight_file",
    "read_index",
    "tensor_digests",
    "tensor_infos",
    "weight_files",
]

_LARGEST_JSON = LARGEST_HEADER
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


class SafetensorsFile(MappedFile):
    """A safetensors file.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, damaged or not in the safetensors format.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _find_tensors)


def open_weight_file(path: Path) -> WeightFile:
    """Opens one weight file by its suffix.

    Args:
        path: A `.safetensors`, `.bin`, `.pt` or `.pth` file.

    Returns:
        The open file; only its headers have been read.

    Raises:
        InputError: The file is missing, damaged or of another format.
    """
    match path.suffix:
        case ".safetensors":
            return SafetensorsFile(path)
        case ".bin" | ".pt" | ".pth":
            return TorchFile(path)
    raise InputError(f"{path}: is neither a .safetensors nor a torch .bin file; name one of these")


def weight_files(folder: Path) -> list[Path]:
    """Finds a folder's weight files: safetensors before torch, a single file before an index.

    Args:
        folder: A Hugging Face model folder.

    Returns:
        The files in reading order.

    Raises:
        InputError: The folder holds no weights, its index is unusable, or the shards of an index hold other weights
            than the single file beside them.
    """
    chosen = _choose(folder)
    return _shards(folder, read_index(chosen)) if chosen.suffix == ".json" else [chosen]


def read_index(path: Path) -> dict[str, str]:
    """Reads the index of a sharded checkpoint.

    Args:
        path: A `*.index.json` file.

    Returns:
        The name of the file of each tensor; all files exist, beside the index.

    Raises:
        InputError: The index is damaged, names a file outside its folder, or one that is missing.
    """
    index = _parse_json(path, read_small(path, _LARGEST_JSON, "fetch it again"))
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{path}: has no weight_map of tensor names to file names; fetch it again")
    for name in sorted(set(places.values())):
        if name in ("", ".", "..") or {"/", "\\"} & set(name) or not name.isprintable():
            raise InputError(f"{path}: names the file {quote(name)}, which is not a plain name in its folder")
        if not os.path.isfile(path.parent / name):
            raise InputError(f"{path}: names the file {quote(name)}, which is missing; fetch it into the same folder")
    return places


def iter_weight_files(folder: Path) -> Iterator[WeightFile]:
    """Opens a folder's weight files one after another, and closes each before the next.

    Args:
        folder: A Hugging Face model folder.

    Yields:
        Each open file, after checking that it holds exactly the tensors that the index gives it.

    Raises:
        InputError: The folder holds no weights, or a file is damaged or disagrees with the index.
    """
    chosen = _choose(folder)
    index = read_index(chosen) if chosen.suffix == ".json" else None
    for path in [chosen] if index is None else _shards(folder, index):
        with open_weight_file(path) as file:
            if index is not None:
                _check_index(chosen, index, file)
            yield file


def tensor_infos(folder: Path) -> dict[str, TensorInfo]:
    """Describes every tensor of a folder by the headers alone.

    Args:
        folder: A Hugging Face model folder.

    Returns:
        Each tensor's shape and dtype.

    Raises:
        InputError: As `iter_weight_files`; a tensor that lies in two files is one such case.
    """
    return {name: info for file in iter_weight_files(folder) for name, info in file.tensors.items()}


def tensor_digests(files: Iterable[WeightFile]) -> dict[str, str]:
    """Hashes a sample of every tensor, independently of how tensors are divided among files.

    Args:
        files: Open weight files, each of which is closed.

    Returns:
        SHA-256, in hex, of each tensor's name, dtype, shape and sample.
    """
    digests = {}
    for opened in files:
        with opened as file:
            for name, info in file.tensors.items():
                header = f"{name}:{info.dtype.name}:{list(info.shape)}:".encode()
                digests[name] = hashlib.sha256(header + file.sample(name)).hexdigest()
    return digests


def _choose(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if os.path.isfile(folder / name):
            _check_one_set(folder / name)
            return folder / name
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; check the path")
    names = sorted(os.listdir(folder))
    listed = ", ".join(map(quote, names[:8])) + (", ..." if len(names) > 8 else "") if names else "nothing"
    raise InputError(f"{folder}: holds no weights, only {listed}; it needs model.safetensors or pytorch_model.bin")


def _shards(folder: Path, index: dict[str, str]) -> list[Path]:
    return [folder / name for name in sorted(set(index.values()))]


def _check_one_set(chosen: Path) -> None:
    """Refuses a single file beside complete shards of other values: one is left of an earlier save, unknown which."""
    index = chosen.with_name(f"{chosen.name}.index.json")
    try:
        shards = [path for path in _shards(chosen.parent, read_index(index)) if path != chosen]
        beside = tensor_digests(map(open_weight_file, shards))
    except InputError:
        return  # nothing to compare
    if not beside:
        return
    alone = tensor_digests([open_weight_file(chosen)])
    if others := sorted(name for name in alone.keys() | beside.keys() if alone.get(name) != beside.get(name)):
        raise InputError(
            f"{chosen}: holds other weights than the shards of {index} ({quote(others[0])}, {len(others)} tensors in "
            "all); transformers reads the single file; remove it, or the index and its shards"
        )


def _check_index(index_path: Path, index: dict[str, str], file: WeightFile) -> None:
    promised = {name for name, place in index.items() if place == file.path.name}
    for name in sorted(promised - file.tensors.keys()):
        raise InputError(
            f"{file.path}: lacks the tensor {quote(name)} that {index_path} places in it; fetch both again"
        )
    for name in sorted(file.tensors.keys() - promised):
        place = f"places in {quote(index[name])}" if name in index else "does not mention"
        raise InputError(f"{file.path}: holds the tensor {quote(name)}, which {index_path} {place}; fetch both again")


def _find_tensors(path: Path, data: np.ndarray) -> dict[str, Placement]:
    size = int.from_bytes(data[:8].tobytes(), "little")
    if size > min(data.size - 8, _LARGEST_JSON):
        limit = f", or its header has more than {_LARGEST_JSON} bytes" if size <= data.size - 8 else ""
        raise InputError(f"{path}: is cut short or not a safetensors file{limit}; fetch it again")
    body = 8 + size
    header = _parse_json(path, data[8:body].tobytes())
    header.pop("__metadata__", None)
    spans = {name: _span(path, name, entry, data.size) for name, entry in header.items()}
    edges = [(0, 0), *sorted((begin, end) for _, begin, end in spans.values()), (data.size - body, data.size - body)]
    if any(end != begin for (_, end), (begin, _) in pairwise(edges)):
        raise InputError(f"{path}: its tensors overlap, leave gaps or do not end with the file; fetch it again")
    return {name: Placement(info, body + begin, _strides(info)) for name, (info, begin, _) in spans.items()}


def _span(path: Path, name: str, entry: object, file_size: int) -> tuple[TensorInfo, int, int]:
    match entry:
        case {"dtype": str(code), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            if code not in _DTYPES:
                raise InputError(f"{path}: tensor {quote(name)} has the dtype {quote(code)}, not one of {[*_DTYPES]}")
            dtype = _DTYPES[code]
            if is_shape(shape, dtype, file_size) and end - begin == math.prod(shape) * dtype.itemsize:
                return TensorInfo(tuple(shape), dtype), begin, end
    raise InputError(f"{path}: tensor {quote(name)} has an impossible header entry; fetch the file again")


def _strides(info: TensorInfo) -> tuple[int, ...]:
    return tuple(info.dtype.itemsize * math.prod(info.shape[axis + 1 :]) for axis in range(len(info.shape)))


def _parse_json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(content.decode("utf-8"), _without_doubles)
    except ValueError as error:
        raise InputError(f"{path}: damaged JSON ({quote(str(error))}); fetch the file again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: its JSON is a {type(value).__name__}, not an object; fetch the file again")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)
