"""Files and folders that are there whole or not at all: written aside, flushed to disk, renamed into place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from jtrace.errors import InputError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, flushed to disk and renamed to it if the block succeeds, removed if not."""
    aside = _aside(path)
    try:
        yield aside
        _flush(aside)
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        raise _cannot_write(path, error) from None
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, which must not exist or be empty, renamed to it if the block succeeds.

    Raises:
        InputError: `path` holds something, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already; name a new or empty folder")
    aside = _aside(path)
    try:
        aside.mkdir(parents=True)
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _flush(file)
        os.replace(aside, Path(os.path.abspath(path)))
    except (OSError, SafetensorError) as error:
        raise _cannot_write(path, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _aside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # "." has no name
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _flush(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def _cannot_write(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return InputError(f"{path}: cannot be written ({reason}); free or choose another disk")
