"""Key of a checkpoint's content: results are kept by it, and made anew where it differs."""

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

PARTS = ("weights", "config", "tokenizer")
CONFIG_FILES = ("config.json", "generation_config.json")


@dataclass(frozen=True)
class Content:
    """Hashes of all that decides what is computed from a checkpoint; the same for a copy of it, wherever it lies.

    The weights are sampled (`jtrace.checkpoints.samples.sample_places`): those that differ in few values only may have
    equal hashes.

    Attributes:
        weights: of every tensor's name, dtype, shape and sample; of Orbax, of every file's size and sample.
        config: of config.json and generation_config.json.
        tokenizer: of the tokeniser's files.
        stamp: of the files' places, sizes and times. An equal one spares reading them; another one says nothing.
    """

    weights: str
    config: str
    tokenizer: str
    stamp: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """Key that results are kept by."""
        return _hash(f"{self.weights}:{self.config}:{self.tokenizer}".encode())

    def differences(self, other: "Content") -> tuple[str, ...]:
        """Names of the parts that differ."""
        return tuple(name for name in PARTS if getattr(self, name) != getattr(other, name))

    def to_json(self) -> str:
        """All but the stamp, which is another for every copy."""
        return json.dumps({name: getattr(self, name) for name in PARTS})

    @staticmethod
    def from_json(text: str) -> "Content":
        return Content(**json.loads(text))


def read_content(folder: Path, tokenizer: Path | None = None, known: Content | None = None) -> Content:
    """Read what a checkpoint holds; of weights of many gigabytes, a few megabytes.

    Args:
        folder: a Hugging Face folder or an Orbax checkpoint.
        tokenizer: where its tokeniser lies; None for the folder.
        known: what was read of the same folder earlier, which is returned where no file has been touched since.

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
    """Tells if a folder holds weights, in whatever state."""
    return is_store(folder) or any((folder / name).is_file() for name in WEIGHT_FILES)


@lru_cache(maxsize=1024)
def _read(folder: Path, tokenizer: Path, stamp: str) -> Content:
    """The content of files that are told from others by their stamp."""
    digests = _store_digests(folder) if is_store(folder) else tensor_digests(iter_weight_files(folder))
    weights = _hash("\n".join(f"{name}={digests[name]}" for name in sorted(digests)).encode())
    there = [folder / name for name in CONFIG_FILES if (folder / name).is_file()]
    config = _hash(b"".join(f"{path.name}:{path.stat().st_size}:".encode() + path.read_bytes() for path in there))
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
            found = path.stat()
            yield f"{os.path.abspath(path)}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
