"""Safetensors files that jtrace reads back: opened by the library, once their header is seen to be small."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from jtrace.errors import InputError
from jtrace.runtime.foreign import foreign_rust
from jtrace.runtime.small_files import open_regular

LARGEST_HEADER = 16 << 20  # bytes; one of 100,000 tensors


@contextmanager
def open_arrays(path: Path, what: str, remedy: str) -> Iterator[Any]:
    """The open file, of the library's class.

    Args:
        what, remedy: what to say of a damaged file, and what to do about it.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, or the block fails on what it holds.
    """
    with open_regular(path, remedy) as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        raise InputError(f"{path}: {what} (its header has {size} bytes, above {LARGEST_HEADER}); {remedy}")
    with foreign_rust(path, what, remedy), safe_open(path, "numpy") as file:
        yield file
