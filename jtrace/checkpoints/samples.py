"""A tensor told from another by a few of its bytes: what a file of gigabytes holds, in milliseconds."""

import hashlib
from collections.abc import Iterable

import numpy as np

from jtrace.checkpoints.mapped import WeightFile

RUN_BYTES = 64
EVERY_BYTES = 4 << 20
FEWEST_RUNS = 8


def sample(tensor: np.ndarray) -> np.ndarray:
    """Values of evenly spread runs, the first and the last value among them; all values of a small tensor.

    A run of 64 bytes for every 4 MiB, and at least eight: training moves every value of a tensor, and so is seen; an
    edit of single values, or of a few rows of an embedding, may lie between the runs and is not.
    """
    if not tensor.size:
        return tensor.reshape(-1)
    run = max(RUN_BYTES // tensor.itemsize, 1)
    starts = np.linspace(0, max(tensor.size - run, 0), max(tensor.nbytes // EVERY_BYTES, FEWEST_RUNS))
    places = starts.astype(np.int64)[:, None] + np.arange(run)
    # Through `flat`, as a torch file's tensor may be strided, and would be copied as a whole.
    return np.asarray(tensor.flat[np.unique(places.clip(max=tensor.size - 1))])


def tensor_digests(files: Iterable[WeightFile]) -> dict[str, str]:
    """SHA-256, in hex, of each tensor's name, dtype, shape and sample; equal however tensors are shared out to files.

    Raises:
        InputError: a file is damaged.
    """
    found = {}
    for file in files:
        for name, info in file.tensors.items():
            header = f"{name}:{info.dtype.name}:{list(info.shape)}:".encode()
            found[name] = hashlib.sha256(header + sample(file.read(name)).tobytes()).hexdigest()
    return found
