"""Files and folders that exist complete or not at all: written aside, flushed to disk, renamed into place."""

import glob
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from jtrace.errors import InputError, WriteError

ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]*)-(?P<pid>\d+)\.tmp")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, flushed to disk and renamed if the block succeeds, removed if it fails.

    A missing folder is made.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    aside = _aside(path)
    try:
        aside.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        _flush(aside)
        os.replace(aside, path)
        _flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from None
    finally:
        with suppress(OSError):  # the folder may be gone
            aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder, renamed to `path` if the block succeeds; `path` must be absent or empty.

    Raises:
        InputError: `path` holds something, or cannot be written.
    """
    sweep_up_beside(path)
    check_unused(path)
    aside = _aside(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _flush(file)
        os.replace(aside, Path(os.path.abspath(path)))
        _flush_folder(aside.parent)
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_unused(path: Path) -> None:
    """Raises InputError if a folder that is to be written holds something, or is a file."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; name a new or empty folder")


def sweep_up(folder: Path) -> None:
    """Removes the temporary files that killed processes of this machine left below a folder."""
    for path in folder.rglob(".*.tmp"):
        _remove_if_left(path)


def sweep_up_beside(path: Path) -> None:
    """Removes what killed processes of this machine left of writing one file or folder."""
    path = Path(os.path.abspath(path))
    for aside in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        _remove_if_left(aside)


def _remove_if_left(aside: Path) -> None:
    match = ASIDE.fullmatch(aside.name)
    if match and match["host"] == _host() and not _runs(int(match["pid"])):
        shutil.rmtree(aside, ignore_errors=True) if aside.is_dir() else aside.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # "." has no name
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def _flush_folder(folder: Path) -> None:
    """Flushes a folder to disk: only then does a rename in it outlast a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def cannot_write(path: Path, error: Exception) -> WriteError:
    """Returns the error that says why a file cannot be written."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return WriteError(f"{path}: cannot be written ({reason}); free or choose another disk")
