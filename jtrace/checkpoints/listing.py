"""Which files of a repository jtrace needs, and what it says when they are not there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jtrace.checkpoints.weights import WEIGHT_FILES
from jtrace.data.tokenizer import TOKENIZER_FILES
from jtrace.errors import InputError

SMALL_FILES = ("config.json", *TOKENIZER_FILES)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its name, its size in bytes, and its blob's name in the cache (empty if not known)."""

    name: str
    size: int
    blob: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of one commit that jtrace needs.

    Attributes:
        repo, revision: as asked for.
        commit: what the revision pointed to when it was looked up; all files are of this commit.
        small: config.json, tokeniser files and the index of sharded weights.
        weights: the weight files, in reading order.
    """

    repo: str
    revision: str
    commit: str
    small: tuple[RemoteFile, ...]
    weights: tuple[RemoteFile, ...]

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return self.small + self.weights

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


def needed(files: Mapping[str, RemoteFile], where: str) -> tuple[list[RemoteFile], RemoteFile]:
    """The small files of a repository, and the weight file to read, or the index that names several.

    Args:
        files: those at the top of the repository, by name.
        where: `repository@revision`, for messages.

    Raises:
        InputError: no config.json, or no weights in a format that jtrace reads.
    """
    held = some(sorted(files)) or "no files"
    if "config.json" not in files:
        raise InputError(f"{where}: no config.json, only {held}; name a revision that holds a model")
    chosen = next((name for name in WEIGHT_FILES if name in files), None)
    if chosen is None:
        raise InputError(
            f"{where}: no weights that jtrace reads (model.safetensors or pytorch_model.bin, whole or sharded), "
            f"only {held}; name a revision or a conversion that has them"
        )
    return small_files(files), files[chosen]


def small_files(files: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    """Config and tokeniser files, those that there are."""
    return [files[name] for name in SMALL_FILES if name in files]


def shards(index: Path, where: str, files: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    """The weight files that an index names; a repository may hold those of another sharding too."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_bytes())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{where} has no weight_map of tensor names to file names; name another revision") from None
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    if absent := [name for name in names if name not in files or not name.endswith(suffix)]:
        raise InputError(f"{where} names no {suffix} files of its folder: {some(absent)}; name another revision")
    return [files[name] for name in names]


def some(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many there are."""
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")


def bytes_text(count: float | None) -> str:
    """A size as a person reads it; a question mark where it is not known."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
