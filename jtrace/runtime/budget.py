"""Bytes that may be held at once, and sizes as people write them."""

import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jtrace.errors import InputError, StoppedError

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE | re.ASCII)
# Statements, packing and what else runs need the rest of the memory.
MEMORY_SHARE = 0.7


@dataclass
class Budget:
    """A number of bytes, from which threads take and to which they give back.

    Attributes:
        limit: how many may be held at once.
        stop: set when nobody shall wait any longer.
        held: how many are held now.
        peak: the most that were held.
    """

    limit: int
    stop: threading.Event
    held: int = 0
    peak: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def take(self, count: int) -> None:
        """Wait until so many more bytes may be held. What exceeds the limit by itself waits until nothing is held.

        Raises:
            StoppedError: `stop` was set meanwhile.
        """
        with self._changed:
            while self.held and self.held + count > self.limit:
                if self.stop.is_set():
                    raise StoppedError
                self._changed.wait(0.1)
            self.held += count
            self.peak = max(self.peak, self.held)

    def give_back(self, count: int) -> None:
        """Let go of so many bytes."""
        with self._changed:
            self.held -= count
            self._changed.notify_all()


def parse_size(flag: str, text: str) -> int:
    """Bytes of a size such as `200GB`, `1.5TB`, `64GiB` or `1000`.

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
    """A size as a person reads it; a question mark where it is not known."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def most_memory() -> int:
    """Bytes of the host's memory that params may take unless told otherwise."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such bound, or "max"
        # What a container or a SLURM job may have.
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return int(MEMORY_SHARE * memory)
