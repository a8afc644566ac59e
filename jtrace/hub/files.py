"""The files of a repository that jtrace needs, and the checks of a hub's answers."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jtrace.errors import InputError
from jtrace.runtime.budget import bytes_text
from jtrace.runtime.small_files import LARGEST_SMALL, parse_json, read_small

# The first that exists is read, as transformers does: safetensors before any .bin beside them.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
SMALL_FILES = ("config.json", *TOKENIZER_FILES)
COMMIT = re.compile("[0-9a-f]{40}")
BLOB = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its name, its size in bytes, and its content's hash, which names its blob in the cache.

    The hash is SHA-256 for a file of git-lfs, and for others the SHA-1 by which git names contents.
    """

    name: str
    size: int
    blob: str


@dataclass(frozen=True)
class Listing:
    """The files of one commit that jtrace needs.

    Attributes:
        repo, revision: names as asked for.
        commit: the commit that the revision pointed to when it was looked up; all files are of this commit.
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
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


def is_inner_path(name: str) -> bool:
    """Returns whether the name of a file, branch or tag stays inside its folder, and can be printed."""
    return not {"", ".", ".."} & set(re.split(r"[/\\]", name)) and name.isprintable()


def parse_revision(answer: Any, where: str) -> tuple[str, dict[str, RemoteFile]]:
    """Reads the commit of a revision, and its files by name, from a hub's answer.

    Args:
        where: the hub's address and `repository@revision`, for messages.

    Raises:
        InputError: the answer has another form, or a commit, hash, size or path in it is malformed.
    """
    match answer:
        case {"sha": str(commit), "siblings": list(siblings)} if COMMIT.fullmatch(commit):
            files = [_parse_file(sibling, where) for sibling in siblings]
            return commit, {file.name: file for file in files}
    raise InputError(f"{where}: no commit hash and list of files came; is it a hub?")


def _parse_file(sibling: Any, where: str) -> RemoteFile:
    match sibling:
        case {"rfilename": str(name), "size": int(size), "lfs": {"sha256": str(blob)}}:
            pass
        case {"rfilename": str(name), "size": int(size), "blobId": str(blob)}:
            pass
        case _:
            raise InputError(f"{where}: a file came without name, size or hash; is it a hub?")
    for what, value, formed in (
        ("path", name, is_inner_path(name)),
        ("size", size, size >= 0),
        ("hash", blob, BLOB.fullmatch(blob)),
    ):
        if not formed:
            raise InputError(f"{where}: a file came with {str(value)[:80]!r}, which is no {what}; is it a hub?")
    return RemoteFile(name, size, blob)


def parse_refs(answer: Any, where: str) -> list[str]:
    """Reads the names of all branches and tags, sorted, from a hub's answer.

    Raises:
        InputError: the answer has another form, or a name leads out of its folder.
    """
    match answer:
        case {"branches": list(branches), "tags": list(tags)}:
            names = [ref.get("name") if isinstance(ref, dict) else None for ref in branches + tags]
            if all(isinstance(name, str) and is_inner_path(name) for name in names):
                return sorted(set(map(str, names)))
    raise InputError(f"{where}: no names of branches and tags came; is it a hub?")


def check_small(files: Iterable[RemoteFile], where: str) -> None:
    """Refuses config, tokeniser and index files that are implausibly large.

    Raises:
        InputError: a file of more than `LARGEST_SMALL`.
    """
    for file in files:
        if file.size > LARGEST_SMALL:
            raise InputError(
                f"{where}: {file.name} has {bytes_text(file.size)}, more than the {bytes_text(LARGEST_SMALL)} that "
                "such a file may have; name another revision"
            )


def needed(
    files: Mapping[str, RemoteFile], where: str, folders: Sequence[str] = ()
) -> tuple[list[RemoteFile], RemoteFile]:
    """Chooses the small files of a repository, and the weight file to read or the index that names several.

    Args:
        files: files at the top of the repository, by name.
        where: `repository@revision`, for messages.
        folders: folders of the repository that hold a config.json.

    Raises:
        InputError: no config.json, or no weights in a format that jtrace reads.
    """
    held = some(sorted(files)) or "no files"
    if "config.json" not in files and folders:
        raise InputError(
            f"{where}: no config.json at the top, but in folders, which jtrace does not read: {some(folders)}; "
            "download one and name the local folder"
        )
    if "config.json" not in files:
        raise InputError(f"{where}: no config.json, only {held}; name a revision that holds a model")
    chosen = chosen_weights(files)
    if chosen is None:
        raise InputError(
            f"{where}: no weights that jtrace reads (model.safetensors or pytorch_model.bin, whole or sharded), "
            f"only {held}; name a revision or a conversion that has them"
        )
    return small_files(files), files[chosen]


def small_files(files: Mapping[str, RemoteFile]) -> list[RemoteFile]:
    """Returns those config and tokeniser files that exist."""
    return [files[name] for name in SMALL_FILES if name in files]


def chosen_weights(names: Container[str]) -> str | None:
    """Returns the weight file to read, or the index that names several; None where there is neither."""
    return next((name for name in WEIGHT_FILES if name in names), None)


def shards(index: Path, where: str, files: Container[str]) -> list[str]:
    """Reads the names of weight files from an index, sorted; the folder may also hold those of another sharding.

    Raises:
        InputError: the index is damaged, or names a file that is not among `files`.
    """
    try:
        names = sorted({str(name) for name in parse_json(read_small(index))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{where} has no weight_map of tensor names to file names; name another revision") from None
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    if absent := [name for name in names if name not in files or not name.endswith(suffix)]:
        raise InputError(f"{where} names no {suffix} files of its folder: {some(absent)}; name another revision")
    return names


def some(names: Sequence[str], most: int = 6) -> str:
    """Writes the first names, and how many there are."""
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
