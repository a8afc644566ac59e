"""Files of named arrays, in safetensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from jtrace.errors import InputError
from jtrace.probing.vector_files import VECTORS_KEY
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.safetensors_file import open_arrays

DAMAGED = "cannot be read as arrays", "delete it and trace its checkpoint again"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], how: Mapping[str, Any] | None = None) -> None:
    """Write arrays; the same arrays give the same bytes.

    Args:
        how: they were made, as JSON values, kept as metadata.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    about = None if how is None else {VECTORS_KEY: json.dumps(dict(how))}
    with atomic_write(path) as aside:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, aside, metadata=about)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays of a file; None where there is no such file, or a damaged one."""
    try:
        with open_arrays(path, *DAMAGED):
            return load_file(path)
    except InputError:
        return None


def holds_arrays(path: Path) -> bool:
    """Tell whether there is such a file, and it is as long as its header says."""
    try:
        with open_arrays(path, *DAMAGED):
            return True
    except InputError:
        return False
