"""A weight file as a read-only memory map: the place of each tensor, and a view of it on demand."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from jtrace.checkpoints.samples import read_values, sample_places
from jtrace.errors import InputError

_MOST_DIMENSIONS = 8
_ALWAYS_PLAUSIBLE = 1 << 30


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's shape and numpy dtype (`ml_dtypes.bfloat16` for bfloat16)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Placement:
    """The place of a tensor in its file: the byte of its first element, and its strides in bytes."""

    info: TensorInfo
    start: int
    strides: tuple[int, ...]


class WeightFile(Protocol):
    """An open weight file of any format; a context manager that closes itself."""

    path: Path
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str) -> np.ndarray:
        """Returns one tensor as a read-only array, a view of the memory map where possible."""

    def sample(self, name: str) -> bytes:
        """Returns the bytes of a few of a tensor's values, see `jtrace.checkpoints.samples`."""

    def close(self) -> None:
        """Releases the map; arrays that were read keep it alive and stay valid."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class MappedFile:
    """A memory-mapped weight file; a function of its format finds the tensors.

    Args:
        path: The file.
        find: Takes the path and the file's bytes, returns each tensor's checked placement.

    Raises:
        InputError: The file cannot be mapped, or `find` refuses it.
    """

    def __init__(self, path: Path, find: Callable[[Path, np.ndarray], dict[str, Placement]]) -> None:
        self.path = path
        self._data: np.ndarray | None = _map(path)
        self._placements = find(path, self._data)
        self.tensors: Mapping[str, TensorInfo] = {name: place.info for name, place in self._placements.items()}

    def read(self, name: str) -> np.ndarray:
        """Returns one tensor as a read-only array.

        Args:
            name: A key of `tensors`.

        Returns:
            A view of the map; a copy only of a tensor the file stores unaligned.

        Raises:
            InputError: The file holds no such tensor.
            ValueError: The file is closed.
        """
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        if name not in self._placements:
            raise InputError(f"{self.path}: holds no tensor {quote(name)}")
        return array_at(self._placements[name], self._data)

    def sample(self, name: str) -> bytes:
        """Returns the bytes of a few of a tensor's values, the same for any layout.

        Args:
            name: A key of `tensors`.
        """
        place = self._placements[name]
        itemsize, size = place.info.dtype.itemsize, math.prod(place.info.shape)
        axes = np.unravel_index(sample_places(size, itemsize), (*place.info.shape, 1))
        offsets = place.start + np.stack(axes, axis=-1) @ np.array([*place.strides, 0])
        return read_values(self.path, offsets, itemsize)

    def close(self) -> None:
        """Releases the map; arrays that were read keep it alive and stay valid."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def array_at(place: Placement, data: np.ndarray) -> np.ndarray:
    """Returns a tensor as a read-only array: a view of the file's bytes, or a copy where they are unaligned."""
    array: np.ndarray = np.ndarray(place.info.shape, place.info.dtype, data, place.start, place.strides)
    if not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array


def quote(text: str) -> str:
    """Quotes text from a file as a short, printable literal on one line, for an error message."""
    return repr(text if len(text) <= 100 else text[:100] + "...")


def is_shape(value: object, dtype: np.dtype[Any], file_size: int) -> bool:
    """Returns whether a value is a plausible shape.

    Args:
        value: A shape as given by a file.
        dtype: The tensor's dtype.
        file_size: The file's size in bytes.

    Returns:
        True for a list or tuple of at most 8 sizes whose array, empty dimensions aside, is no larger than the file.
    """
    return (
        isinstance(value, list | tuple)
        and len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and size >= 0 for size in value)
        and math.prod(size or 1 for size in value) * dtype.itemsize <= max(file_size, _ALWAYS_PLAUSIBLE)
    )


def _map(path: Path) -> np.ndarray:
    # Opening a named pipe would wait forever.
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; check the path")
    try:
        return np.memmap(path, np.uint8, "r").view(np.ndarray)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be mapped ({error}); check its permissions or fetch it again") from error
