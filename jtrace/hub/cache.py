"""A repository's folder in huggingface_hub's cache: the only place that downloads are written to and removed from.

    models--org--name/blobs/<hash>                    content, named by its hash: SHA-256, or git's SHA-1
    models--org--name/snapshots/<commit>/config.json  a link to a blob
    models--org--name/refs/main                       the commit of a branch

Commits, hashes and file names come from a hub, which may be hostile: paths are made of well-formed ones only, and
nothing is written or removed behind a link that leads out of the repository's folder.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import WeakFileLock

from jtrace.errors import InputError
from jtrace.hub.files import (
    BLOB,
    COMMIT,
    SMALL_FILES,
    WEIGHT_FILES,
    Listing,
    RemoteFile,
    chosen_weights,
    is_inner_path,
    shards,
)
from jtrace.runtime.atomic import atomic_write

SHA256_DIGITS = 64


@dataclass(frozen=True)
class RepositoryCache:
    """One repository in a cache.

    Attributes:
        root: the cache; it may not exist yet.
        repo: `namespace/name`.
        kind: `model` or `dataset`.
    """

    root: Path
    repo: str
    kind: str = "model"

    @property
    def folder(self) -> Path:
        return self.root / repo_folder_name(repo_id=self.repo, repo_type=self.kind)

    def snapshot(self, commit: str) -> Path:
        """Returns the folder of a commit's files.

        Raises:
            InputError: `commit` is no commit hash.
        """
        return self.folder / "snapshots" / _formed(commit, COMMIT.fullmatch(commit), "commit")

    def holds(self, commit: str, file: RemoteFile) -> bool:
        """Returns whether a file of the right size is here, of any commit; its content is not checked."""
        return file.size in (size_of(self.snapshot(commit) / file.name), size_of(self._blob(file.blob)))

    def unfinished_bytes(self, file: RemoteFile) -> int:
        """Returns the bytes of a file that an interrupted download has left."""
        return size_of(_unfinished(self._blob(file.blob))) or 0

    def has(self, commit: str, file: RemoteFile) -> bool:
        """Returns whether the commit's folder has the file with the listed content."""
        path = self.snapshot(commit) / file.name
        return size_of(path) == file.size and self._proven(path, file.blob)

    def bring(self, commit: str, file: RemoteFile, download: Callable[[Path], None]) -> None:
        """Puts a file into the commit's folder, and downloads it unless its content is here.

        Args:
            download: function that writes the content to a path, where an earlier attempt may have left a part of it.

        Raises:
            SpoiltError: the bytes are not the listed ones; they are thrown away.
            InputError: a link leads out of the repository's folder.
        """
        blob = self._own(self._blob(file.blob))
        entry = self._own(self.snapshot(commit) / _formed(file.name, is_inner_path(file.name), "path"))
        unfinished = _unfinished(blob)
        lock = self.root / ".locks" / self.folder.name / f"{blob.name}.lock"
        for path in (blob, entry, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not self._proven(blob, file.blob):
                blob.unlink(missing_ok=True)
                if unfinished.is_symlink():
                    unfinished.unlink()
                download(unfinished)
                # Two processes may have written to it where the file system does not honour locks.
                size = size_of(unfinished)
                if size != file.size or not _matches(unfinished, file.blob):
                    unfinished.unlink(missing_ok=True)
                    raise SpoiltError(file, size)
                os.replace(unfinished, blob)
                self._note_proof(blob, file.blob)
            _link(entry, blob)

    def evict(self, commit: str, files: Iterable[str], blobs: Iterable[str]) -> None:
        """Removes files of a commit, and blobs that no other commit's files link to.

        Args:
            files: names of files.
            blobs: names of blobs; unfinished downloads of them are removed as well.

        Raises:
            InputError: a name is not well formed, or a link leads out of the repository's folder.
        """
        snapshot = self.snapshot(commit)
        entries = [self._own(snapshot / _formed(name, is_inner_path(name), "path")) for name in files]
        paths = {self._own(self._blob(blob)) for blob in blobs}
        for entry in entries:
            entry.unlink(missing_ok=True)
        links = (path for path in (self.folder / "snapshots").rglob("*") if path.is_symlink())
        used = {os.path.basename(os.readlink(path)) for path in links}
        for blob in paths:
            if blob.name not in used:
                for path in (blob, _unfinished(blob), *self._proofs.glob(f"{blob.name}-*")):
                    path.unlink(missing_ok=True)

    def name_revision(self, revision: str, commit: str) -> None:
        """Records the commit of a branch or tag once its files are here; an unwritable cache goes without."""
        path = self.folder / "refs" / _formed(revision, is_inner_path(revision), "revision")
        if revision == commit or (path.is_file() and _read(path) == commit):
            return
        with suppress(OSError, InputError), atomic_write(self._own(path)) as aside:
            aside.write_text(commit, encoding="utf-8")

    def revisions(self) -> list[str]:
        """Returns the names of the branches and tags that were asked for, sorted."""
        refs = self.folder / "refs"
        return sorted(path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file())

    def listing(self, revision: str, weights: bool = True) -> Listing | None:
        """Lists a revision from the cache; None unless it is complete and every file is a link to a blob.

        Without a blob's name, the expected content of a file is not known.
        """
        ref = self.folder / "refs" / revision
        commit = _read(ref) if ref.is_file() else revision
        if not COMMIT.fullmatch(commit):
            return None
        snapshot = self.snapshot(commit)
        try:
            held = self._weights(snapshot) if weights else []
        except InputError:
            return None
        indexes = [name for name in WEIGHT_FILES if name.endswith(".json")]
        small = [name for name in (*SMALL_FILES, *indexes) if (snapshot / name).is_file()]
        if not small or (weights and "config.json" not in small):
            return None
        files = {name: file for name in (*small, *held) if (file := _linked(snapshot / name))}
        if len(files) < len(small) + len(held):
            return None
        return Listing(self.repo, revision, commit, *(tuple(files[name] for name in names) for names in (small, held)))

    def _weights(self, snapshot: Path) -> list[str]:
        """Returns the names of a snapshot's weight files, in reading order.

        Raises:
            InputError: there are none, or an index names files that are not here.
        """
        names = [path.name for path in snapshot.iterdir() if path.is_file()] if snapshot.is_dir() else []
        chosen = chosen_weights(names)
        if chosen is None:
            raise InputError(f"{snapshot}: holds no weights")
        return shards(snapshot / chosen, str(snapshot), names) if chosen.endswith(".json") else [chosen]

    def _blob(self, blob: str) -> Path:
        return self.folder / "blobs" / _formed(blob, BLOB.fullmatch(blob), "hash")

    def _own(self, path: Path) -> Path:
        """Checks that a path may be written or removed: no folder between the repository's and it is a link."""
        folder = path.parent
        if os.path.realpath(folder) != os.path.join(os.path.realpath(self.folder), folder.relative_to(self.folder)):
            raise InputError(
                f"{folder}: a link leads out of {self.folder}, and nothing is written or removed behind it; remove "
                "the link or choose another --cache_dir"
            )
        return path

    def _proven(self, path: Path, blob: str) -> bool:
        """Returns whether a file has the content of its blob's name; it is read once for each state of the file."""
        if not path.is_file():
            return False
        if self._proof(path, blob).exists():
            return True
        if not _matches(path, blob):
            return False
        self._note_proof(path, blob)
        return True

    def _note_proof(self, path: Path, blob: str) -> None:
        proof = self._proof(path, blob)
        # A cache that cannot be written is used as well; every process then reads its files again.
        with suppress(OSError):
            proof.parent.mkdir(parents=True, exist_ok=True)
            proof.touch()

    def _proof(self, path: Path, blob: str) -> Path:
        """Returns the empty file that exists once a content was found right; its name holds size, time and inode."""
        about = path.stat()
        return self._proofs / f"{blob}-{about.st_size}-{about.st_mtime_ns}-{about.st_ino}"

    @property
    def _proofs(self) -> Path:
        """The folder of these notes, where Hugging Face's tools do not look."""
        return self.root / ".locks" / "jtrace-proven" / self.folder.name


class SpoiltError(InputError):
    """A downloaded file has another size or content than listed."""

    def __init__(self, file: RemoteFile, size: int | None) -> None:
        if size == file.size:
            what = f"with another {'SHA-256' if len(file.blob) == SHA256_DIGITS else 'SHA-1'} than listed"
        elif size is not None and size > file.size:
            what = f"as more than the {file.size} bytes that were listed"
        else:
            what = f"as {size} bytes, {file.size} were listed"
        super().__init__(f"{file.name} came {what}; it was thrown away, the same command fetches it again")


def size_of(path: Path) -> int | None:
    """Returns the bytes of a file; None if there is none. Other processes may remove it at any moment."""
    try:
        about = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_size if stat.S_ISREG(about.st_mode) else None


def _formed(name: str, is_formed: object, what: str) -> str:
    if not is_formed:
        raise InputError(f"{name[:80]!r} is no {what} of a hub; nothing is written or removed by that name")
    return name


def _unfinished(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _link(entry: Path, blob: Path) -> None:
    """Makes a snapshot's file a link to its blob; where the file system has no links, moves the blob there."""
    aside = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    try:
        aside.symlink_to(os.path.relpath(blob, entry.parent))
    except PermissionError:
        os.replace(blob, aside)
    os.replace(aside, entry)


def _linked(entry: Path) -> RemoteFile | None:
    """Returns a snapshot's file if it is a link whose target's name is a hash."""
    if not entry.is_symlink():
        return None
    blob = os.path.basename(os.readlink(entry))
    return RemoteFile(entry.name, entry.stat().st_size, blob) if BLOB.fullmatch(blob) else None


def _matches(path: Path, blob: str) -> bool:
    """Returns whether a content has a hash: of 64 digits a SHA-256, of 40 the SHA-1 by which git names contents."""
    with path.open("rb") as stream:
        header = b"blob %d\0" % os.fstat(stream.fileno()).st_size
        sha256 = len(blob) == SHA256_DIGITS
        digest = hashlib.sha256() if sha256 else hashlib.sha1(header, usedforsecurity=False)
        return hashlib.file_digest(stream, lambda: digest).hexdigest() == blob


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()
