"""Formats of vector files: a file each, that makes bytes of a vector and reads a file's content."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jtrace.errors import InputError
from jtrace.probing.vector_formats import gguf, layered, lm_eval, npz
from jtrace.probing.vector_formats.content import FileContent, LayerVector


@dataclass(frozen=True)
class VectorFormat:
    """A format that vectors are written in, and read again.

    Attributes:
        suffixes: of its files; the first is the usual one.
        encode: makes a file's bytes, or says by InputError what it cannot hold.
        read: raises InputError alone.
    """

    suffixes: tuple[str, ...]
    encode: Callable[[LayerVector], bytes]
    read: Callable[[Path], FileContent]


FORMATS: dict[str, VectorFormat] = {
    "gguf": VectorFormat((".gguf",), gguf.encode, gguf.read),
    "safetensors": VectorFormat((".safetensors",), layered.encode, layered.read),
    "lm-eval": VectorFormat((".pt", ".pth"), lm_eval.encode, lm_eval.read),
    "npz": VectorFormat((".npz",), npz.encode, npz.read),
}


def format_of(path: Path) -> str | None:
    """The format that a file's suffix stands for; None for any other suffix."""
    return next((name for name, how in FORMATS.items() if path.suffix.lower() in how.suffixes), None)


def format_to_write(path: Path, name: str | None) -> VectorFormat:
    """The format that a file shall have.

    Args:
        name: of `FORMATS`; None for that of the suffix.

    Raises:
        InputError: there is no such format, or its files have another suffix, by which they are read.
    """
    suffixes = ", ".join(how.suffixes[0] for how in FORMATS.values())
    if name is None and format_of(path) is None:
        raise InputError(f"{path}: names no format of vectors; end it in one of {suffixes}")
    if name is not None and name not in FORMATS:
        raise InputError(f"'{name}' is no format of vectors; known are {', '.join(FORMATS)}")
    if name is not None and format_of(path) != name:
        raise InputError(f"{path}: files of {name} are known by their suffix; end it in {FORMATS[name].suffixes[0]}")
    return FORMATS[name or str(format_of(path))]
