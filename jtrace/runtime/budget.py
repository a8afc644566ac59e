"""Budgets of bytes that may be held at once, and sizes in text."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from jtrace.errors import InputError, StoppedError

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE | re.ASCII)
# Statements, packing and everything else need the rest of the memory.
MEMORY_SHARE = 0.7


@dataclass
class Budget:
    """A number of bytes that threads take from and give back to.

    Attributes:
        limit: the most bytes that may be held at once.
        stop: event that ends all waiting.
        held: bytes that are held.
        peak: the most bytes that were held at once.
    """

    limit: int
    stop: threading.Event
    held: int = 0
    peak: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def take(self, count: int) -> None:
        """Takes bytes, and waits until they may be held; more than the whole limit waits until nothing is held.

        Raises:
            StoppedError: `stop` was set while waiting.
        """
        with self._changed:
            while self.held and self.held + count > self.limit:
                if self.stop.is_set():
                    raise StoppedError
                self._changed.wait(0.1)
            self.held += count
            self.peak = max(self.peak, self.held)

    def give_back(self, count: int) -> None:
        """Gives bytes back."""
        with self._changed:
            self.held -= count
            self._changed.notify_all()

    @contextmanager
    def lease(self, count: int) -> Iterator[None]:
        """Hold so many more bytes within a block, which begins once they may be held (`take`)."""
        self.take(count)
        try:
            yield
        finally:
            self.give_back(count)


def parse_size(flag: str, text: str) -> int:
    """Reads a size such as `200GB`, `1.5TB`, `64GiB` or `1000`, and returns bytes.

    Raises:
        InputError: anything else, or nothing at all.
    """
    match = SIZE.fullmatch(text.strip())
    power = " kmgt".index((match[2] or " ").lower()) if match else 0
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** power) if match else 0
    if size == 0:
        raise InputError(f"--{flag}={text}: no size; give bytes, as 200GB, 1.5TB or 64GiB")
    return size


def bytes_text(count: float | None) -> str:
    """Writes a size for people; a question mark where it is not known."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def most_memory() -> int:
    """Returns the default for the bytes of host memory that params may take."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such bound, or "max"
        # The bound of a container or a SLURM job.
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return int(MEMORY_SHARE * memory)
