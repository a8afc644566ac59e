"""Files of named arrays, in safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from jtrace.probing.vectors import VECTORS_KEY
from jtrace.runtime.atomic import atomic_write


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], how: Mapping[str, Any] | None = None) -> None:
    """The same bytes for the same arrays.

    Args:
        how: they were made, as JSON values, kept as metadata.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    about = None if how is None else {VECTORS_KEY: json.dumps(dict(how))}
    with atomic_write(path) as aside:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, aside, metadata=about)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """None where there is no such file, or a damaged one."""
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return None


def holds_arrays(path: Path) -> bool:
    """Whether there is such a file, and it is as long as its header says."""
    try:
        with safe_open(path, "numpy"):
            return True
    except (OSError, SafetensorError):
        return False
