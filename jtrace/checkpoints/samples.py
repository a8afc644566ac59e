"""Samples of large files: a few bytes, enough to tell trained weights apart in milliseconds."""

import os
from pathlib import Path

import numpy as np

RUN_BYTES = 64
EVERY_BYTES = 4 << 20
FEWEST_RUNS = 8


def sample_places(size: int, itemsize: int) -> np.ndarray:
    """Returns the indices of an array's sampled values: evenly spread runs with both ends; int64, ascending.

    There is a run of 64 bytes for every 4 MiB, at least eight, and a small array is sampled whole. Training moves every
    value of a tensor and is seen; an edit of single values, or of a few rows of an embedding, may lie between the runs.

    Args:
        size: number of values.
        itemsize: bytes of one value.
    """
    run = max(RUN_BYTES // itemsize, 1)
    starts = np.linspace(0, max(size - run, 0), max(size * itemsize // EVERY_BYTES, FEWEST_RUNS)).astype(np.int64)
    places = np.unique(starts[:, None] + np.arange(run))
    return places[places < size]


def read_values(path: Path, offsets: np.ndarray, itemsize: int) -> bytes:
    """Reads the values that begin at these bytes of a file, adjacent ones at once.

    It uses no memory map, since each access to one would also read the bytes around from the disk.
    """
    runs = np.split(offsets, np.flatnonzero(np.diff(offsets) != itemsize) + 1)
    with path.open("rb", buffering=0) as file:
        return b"".join(os.pread(file.fileno(), len(run) * itemsize, run[0]) for run in runs if len(run))


def sample_file(path: Path) -> bytes:
    """Returns the size of a file, followed by a sample of its bytes."""
    size = path.stat().st_size
    return size.to_bytes(8, "little") + read_values(path, sample_places(size, 1), 1)
