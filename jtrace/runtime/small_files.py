"""Small files that strangers made, read whole: regular files alone, of a largest size, as bytes, text or JSON."""

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from jtrace.errors import InputError
from jtrace.runtime.budget import bytes_text
from jtrace.runtime.foreign import COPY_AGAIN, cause

LARGEST_SMALL = 64 << 20  # bytes; tokenisers of 256,000 tokens take about 35 MB
READ_AT_ONCE = 1 << 22  # bytes
MOST_NESTED = 64  # objects and lists within each other; a tokeniser's nest some ten deep


class MissingFileError(InputError):
    """There is no such file."""


def open_regular(path: Path, remedy: str = COPY_AGAIN) -> BinaryIO:
    """Open a file to be read; what could keep a reader waiting, as a pipe or a device does, is refused.

    Args:
        remedy: what to do where it is no file.

    Raises:
        MissingFileError: there is nothing of that name.
        InputError: it is no regular file, or cannot be opened.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait for its writer
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions and its disk") from None
    except ValueError as error:
        raise InputError(f"{path}: is no path ({cause(error)}); check the path") from None
    mode = os.fstat(opened).st_mode
    if not stat.S_ISREG(mode):
        os.close(opened)
        kind = "Is a directory" if stat.S_ISDIR(mode) else "Is a pipe" if stat.S_ISFIFO(mode) else "Is a device"
        raise InputError(f"{path}: cannot be read ({kind}); check its permissions and its disk")
    return open(opened, "rb")


def read_small(path: Path, most: int = LARGEST_SMALL, remedy: str = COPY_AGAIN) -> bytes:
    """All of a file.

    Args:
        most: bytes that it may have.
        remedy: what to do where it is no file, or too large.

    Raises:
        MissingFileError, InputError: as `open_regular`, or it is larger.
    """
    with open_regular(path, remedy) as file:
        try:
            content = b"".join(_parts(file, most + 1))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check its disk") from None
    if len(content) > most:
        raise InputError(f"{path}: has more than the {bytes_text(most)} that such a file may have; {remedy}")
    return content


def _parts(file: BinaryIO, most: int) -> Iterator[bytes]:
    """The file's first bytes, piece by piece: a read of many at once takes memory for all of them."""
    while most and (part := file.read(min(most, READ_AT_ONCE))):
        most -= len(part)
        yield part


def read_text(path: Path, most: int = LARGEST_SMALL, remedy: str = COPY_AGAIN) -> str:
    """All of a file of UTF-8 text.

    Raises:
        MissingFileError, InputError: as `read_small`, or it is not UTF-8.
    """
    content = read_small(path, most, remedy)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; {remedy}") from None


def read_json(path: Path, most: int = LARGEST_SMALL, remedy: str = COPY_AGAIN) -> Any:
    """The value of a JSON file, see `parse_json`.

    Raises:
        MissingFileError, InputError: as `read_text`, or it is no such JSON.
    """
    content = read_text(path, most, remedy)
    try:
        return parse_json(content)
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({cause(error)}); {remedy}") from None


def read_json_object(path: Path, most: int = LARGEST_SMALL, remedy: str = COPY_AGAIN) -> dict[str, Any]:
    """Reads a file that holds a JSON object, see `read_json`."""
    value = read_json(path, most, remedy)
    if not isinstance(value, dict):
        raise InputError(f"{path}: holds a {type(value).__name__}, not a JSON object; {remedy}")
    return value


def parse_json(
    text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None, finite: bool = True
) -> Any:
    """The value of a JSON text, nested `MOST_NESTED` deep at most.

    Args:
        pairs: makes the value of an object; a dict if None.
        finite: refuse NaN and infinity, which rows of data may have.

    Raises:
        ValueError: it is no such JSON; the only thing that is raised.
    """
    try:
        numbers: dict[str, Any] = {"parse_constant": _refuse_constant, "parse_float": _finite} if finite else {}
        value = json.loads(text, object_pairs_hook=pairs, **numbers)
        if not _is_flat(value, MOST_NESTED):
            raise RecursionError
    except (RecursionError, OverflowError, MemoryError) as error:
        raise ValueError(cause(error)) from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _is_flat(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = cast(dict[str, object], value).values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(one, levels - 1) for one in inner)
