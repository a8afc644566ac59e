"""A few bytes of a large file: enough to tell trained weights from others, in milliseconds."""

import os
from pathlib import Path

import numpy as np

RUN_BYTES = 64
EVERY_BYTES = 4 << 20
FEWEST_RUNS = 8


def sample_places(size: int, itemsize: int) -> np.ndarray:
    """Places of the values to look at in an array: evenly spread runs, first and last value included; int64, ascending.

    A run of 64 bytes for every 4 MiB, and at least eight; all of a small array. Training moves every value of a tensor,
    and is seen; an edit of single values, or of a few rows of an embedding, may lie between the runs and is not.

    Args:
        size: how many values there are.
        itemsize: bytes of one.
    """
    run = max(RUN_BYTES // itemsize, 1)
    starts = np.linspace(0, max(size - run, 0), max(size * itemsize // EVERY_BYTES, FEWEST_RUNS)).astype(np.int64)
    places = np.unique(starts[:, None] + np.arange(run))
    return places[places < size]


def read_values(path: Path, offsets: np.ndarray, itemsize: int) -> bytes:
    """Bytes of the values that begin at these bytes of a file, those beside each other at once.

    Not through a memory map: each look at one would bring what lies around it from the disk as well.
    """
    runs = np.split(offsets, np.flatnonzero(np.diff(offsets) != itemsize) + 1)
    with path.open("rb", buffering=0) as file:
        return b"".join(os.pread(file.fileno(), len(run) * itemsize, run[0]) for run in runs if len(run))


def sample_file(path: Path) -> bytes:
    """A sample of a file's bytes, behind its size."""
    size = path.stat().st_size
    return size.to_bytes(8, "little") + read_values(path, sample_places(size, 1), 1)
