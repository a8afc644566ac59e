"""Bytes from a hub into huggingface_hub's cache: resumed, checked, retried, and counted on one bar."""

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers
from tqdm import tqdm

from jtrace.checkpoints.listing import Listing, RemoteFile
from jtrace.errors import InputError, StoppedError

SHA256 = re.compile("[0-9a-f]{64}")
WORTH_SAYING = 4.0  # seconds of waiting

T = TypeVar("T")


def download_resumably(listing: Listing, file: RemoteFile, url: str, storage: Path, bar: type[tqdm]) -> None:
    """Make the file's blob, starting from what an earlier attempt left of it.

    Args:
        storage: the repository's folder in the cache.
        bar: made and updated with the bytes that come.

    Raises:
        InputError: other bytes came than were listed; they are thrown away.
    """
    blob = storage / "blobs" / file.blob
    unfinished = blob.with_name(f"{blob.name}.incomplete")
    lock = storage.parent / ".locks" / storage.name / f"{file.blob}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        with unfinished.open("ab") as stream:
            if stream.tell() < file.size:
                http_get(url, stream, resume_size=stream.tell(), headers=build_hf_headers(), tqdm_class=bar)
        # Two processes may have written to it where the file system does not honour locks.
        if (size := size_of(unfinished)) != file.size or not _matches(unfinished, file.blob):
            unfinished.unlink()
            raise InputError(spoilt(listing, file, size))
        os.replace(unfinished, blob)


def spoilt(listing: Listing, file: RemoteFile, size: int | None) -> str:
    """What to say of a file that came with another size or content than listed."""
    what = "with another SHA-256 than listed" if size == file.size else f"as {size} bytes, {file.size} were listed"
    return f"{listing}: {file.name} came {what}; it was thrown away, the same command fetches it again"


def patiently(call: Callable[[], T], waits: Sequence[float]) -> T:
    """Call the hub, again after each wait while a fault may pass."""
    for wait in waits:
        try:
            return call()
        except HTTPError as error:
            if not is_transient(error):
                raise
            if wait >= WORTH_SAYING:
                tqdm.write(f"the hub fails ({type(error).__name__}), again in {wait:.0f} s", file=sys.stderr)
        time.sleep(wait)
    return call()


def is_transient(error: Exception) -> bool:
    """Whether a fault may pass by itself."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, HTTPError)


def passing_on(bar: tqdm, stop: Event | None = None) -> type[tqdm]:
    """What huggingface_hub makes its bar of a file from: shows nothing and passes the bytes on to `bar`.

    Args:
        stop: ends the download, by `StoppedError`, once it is set; what has come is kept.
    """

    class PassingOn(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> bool | None:
            if stop is not None and stop.is_set():
                raise StoppedError
            return bar.update(n)

        # Xet reports the bytes it received beside those it wrote; a bar with these methods is given both.
        def update_transfer(self, n: float) -> None: ...

        def set_transfer_postfix_str(self, *args: Any, **kwargs: Any) -> None: ...

    return PassingOn


def _matches(path: Path, blob: str) -> bool:
    """Whether a file's SHA-256 is its blob's name; files that git keeps itself are named by another hash."""
    if not SHA256.fullmatch(blob):
        return True
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == blob


def size_of(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    return path.stat().st_size if path.is_file() else None


def discard(path: Path) -> None:
    """Remove a file of a snapshot together with the blob it links to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def note(path: Path, text: str) -> None:
    """Write a small file whole, unless it says so already."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
