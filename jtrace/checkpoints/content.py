"""The key of a checkpoint's content: results are kept under it, and computed again where it differs."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from jtrace.checkpoints.formats.weights import iter_weight_files, tensor_digests, weight_files
from jtrace.checkpoints.orbax import PARAMS, is_store
from jtrace.checkpoints.samples import sample_file
from jtrace.data.tokenizer import tokenizer_fingerprint
from jtrace.errors import InputError
from jtrace.hub.files import TOKENIZER_FILES, WEIGHT_FILES
from jtrace.runtime.small_files import parse_json, read_small

PARTS = ("weights", "config", "tokenizer")
CONFIG_FILES = ("config.json", "generation_config.json")


@dataclass(frozen=True)
class Content:
    """Hashes of all files that decide results; the same for every copy of a checkpoint.

    The weights are sampled (`jtrace.checkpoints.samples.sample_places`): weights that differ in few values may have
    equal hashes.

    Attributes:
        weights: hash of every tensor's name, dtype, shape and sample; for Orbax, of every file's size and sample.
        config: hash of config.json and generation_config.json.
        tokenizer: hash of the tokeniser's files.
        stamp: hash of the files' paths, sizes and times. If equal, they need not be read; otherwise nothing follows.
    """

    weights: str
    config: str
    tokenizer: str
    stamp: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Key under which results are kept."""
        return _hash(f"{self.weights}:{self.config}:{self.tokenizer}".encode())

    def differences(self, other: "Content") -> tuple[str, ...]:
        """Returns the names of the parts that differ."""
        return tuple(name for name in PARTS if getattr(self, name) != getattr(other, name))

    def to_json(self) -> str:
        """Writes all but the stamp, which differs for every copy."""
        return json.dumps({name: getattr(self, name) for name in PARTS})

    @staticmethod
    def from_json(text: str) -> "Content":
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is damaged.
        """
        match parse_json(text):
            case {"weights": str(weights), "config": str(config), "tokenizer": str(tokenizer)}:
                return Content(weights, config, tokenizer)
        raise ValueError(f"hashes of {', '.join(PARTS)} are needed")


def read_content(folder: Path, tokenizer: Path | None = None, known: Content | None = None) -> Content:
    """Reads a checkpoint's content; of many gigabytes of weights, a few megabytes.

    Args:
        folder: a Hugging Face folder or an Orbax checkpoint.
        tokenizer: folder of its tokeniser; the same folder if None.
        known: an earlier result for the same folder, which is returned if no file has been touched since.

    Raises:
        InputError: there are no weights, or they are damaged.
    """
    tokenizer = tokenizer or folder
    try:
        stamp = _hash("\n".join(_stamps(folder, tokenizer)).encode())
        return known if known is not None and known.stamp == stamp else _read(folder, tokenizer, stamp)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read ({error.strerror})") from None


def holds_weights(folder: Path) -> bool:
    """Returns whether a folder holds weights, in any state."""
    return is_store(folder) or any((folder / name).is_file() for name in WEIGHT_FILES)


@lru_cache(maxsize=1024)
def _read(folder: Path, tokenizer: Path, stamp: str) -> Content:
    """Reads the content of files of a given stamp."""
    digests = _store_digests(folder) if is_store(folder) else tensor_digests(iter_weight_files(folder))
    weights = _hash("\n".join(f"{name}={digests[name]}" for name in sorted(digests)).encode())
    configs = [folder / name for name in CONFIG_FILES if (folder / name).is_file()]
    contents = {path.name: read_small(path) for path in configs}
    config = _hash(b"".join(f"{name}:{len(content)}:".encode() + content for name, content in contents.items()))
    return Content(weights, config, tokenizer_fingerprint(tokenizer), stamp)


def _store_digests(folder: Path) -> dict[str, str]:
    """Samples an Orbax checkpoint's files, which hold its arrays compressed, file by file."""
    return {str(path.relative_to(folder)): _hash(sample_file(path)) for path in _store_files(folder)}


def _store_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / PARAMS).rglob("*") if path.is_file())


def _stamps(folder: Path, tokenizer: Path) -> Iterator[str]:
    weights = _store_files(folder) if is_store(folder) else weight_files(folder)
    small = [folder / name for name in CONFIG_FILES] + [tokenizer / name for name in TOKENIZER_FILES]
    for path in (*weights, *small):
        if path.is_file():
            status = path.stat()
            yield f"{os.path.abspath(path)}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
