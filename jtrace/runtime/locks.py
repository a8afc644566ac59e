"""Locks on files, by which processes share out work; the system releases them when their holder ends in any way."""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from jtrace.runtime.atomic import cannot_write

LOCKS = ".locks"  # folder of a run directory's locks
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass
class Claims:
    """Names that this process has claimed in a folder; no other process, and no other `Claims`, has them.

    On a file system without locks every claim is granted. Files are complete all the same, but work may be done twice;
    one line on stderr says so.

    Attributes:
        folder: folder of the locks, made with the first claim.
        locking: whether the file system has locks, as far as is known.
    """

    folder: Path
    locking: bool = True
    _held: dict[str, int] = field(default_factory=dict)

    def take(self, name: str) -> bool:
        """Claims a name; returns False if another process has it.

        Raises:
            WriteError: the folder cannot be written.
        """
        if not self.locking or name in self._held:
            return True
        path = self.folder / f"{name}.lock"
        try:
            self.folder.mkdir(exist_ok=True)
            while True:
                opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(opened)
                    return False
                # The last holder may have removed the file after it was opened here and before it was locked.
                if _is_at(opened, path):
                    self._held[name] = opened
                    return True
                os.close(opened)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise cannot_write(path, error) from None
            os.close(opened)
            self.locking = False
            print(f"warning: the file system of {self.folder} has no locks; run one command on it", file=sys.stderr)
            return True

    def release(self, name: str) -> None:
        """Releases a name."""
        if (opened := self._held.pop(name, None)) is not None:
            with suppress(OSError):  # a vanished disk
                (self.folder / f"{name}.lock").unlink(missing_ok=True)
            os.close(opened)

    def release_all(self) -> None:
        """Releases every name."""
        for name in list(self._held):
            self.release(name)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process is in an `alone` block with this file, which is made and left in place.

    Raises:
        WriteError: the file cannot be made.
    """
    with _opened(path) as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Marks by a file, which is made and left in place, that this process uses something; several may do so at once."""
    with _opened(path) as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_used(path: Path) -> bool:
    """Returns whether a process is in an `in_use` block with this file."""
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


def _opened(path: Path) -> IO[str]:
    try:
        return path.open("a+")  # opened to read as well, which NFS requires for shared locks
    except OSError as error:
        raise cannot_write(path, error) from None


def _is_at(opened: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(opened), os.stat(path))
    except FileNotFoundError:
        return False
