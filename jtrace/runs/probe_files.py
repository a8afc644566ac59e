"""Files of probes: every fit of a cross-validation, kept so that it can be tested on other sets and checkpoints.

Axes: F fits (folds of all repeats, repeats-major), L layers, D width, R repeats, N rows.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jtrace.errors import InputError
from jtrace.probing.raw_probes import KeptProbes
from jtrace.probing.vector_files import VECTORS_KEY
from jtrace.runs.arrays import write_arrays
from jtrace.runtime.safetensors_file import open_arrays
from jtrace.runtime.small_files import MissingFileError, parse_json

# Names of sets are stems of files, in which there is no slash.
FOLDS, LABELS = "/folds", "/labels"
DAMAGED = "cannot be read as probes", "delete it and trace its checkpoint again"


def write_probes(path: Path, sets: Mapping[str, KeptProbes], how: Mapping[str, Any]) -> None:
    """A safetensors file: SET, SET/folds and SET/labels of each set, as in `KeptProbes`.

    Args:
        how: they were made, as JSON values; `layers` says which layers they are of.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    arrays = {}
    for name, kept in sets.items():
        arrays[name] = np.asarray(kept.probes, np.float32)
        arrays[name + FOLDS] = np.asarray(kept.folds, np.int16)
        arrays[name + LABELS] = np.asarray(kept.labels, np.int8)
    write_arrays(path, arrays, how)


def read_probes(path: Path, sets: Collection[str] | None = None) -> tuple[dict[str, KeptProbes], dict[str, Any]] | None:
    """The probes of each set, and how they were made; None where there is no such file.

    Args:
        sets: which of the sets to read, where the file has them; None for all.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with open_arrays(path, *DAMAGED) as file:
            how = dict(parse_json(file.metadata()[VECTORS_KEY]))
            names = sorted(key for key in file.keys() if "/" not in key and (sets is None or key in sets))  # noqa: SIM118
            probes = {
                name: KeptProbes(*(file.get_tensor(name + part) for part in ("", FOLDS, LABELS))) for name in names
            }
            layers = len(how["layers"])
            if not all(type(layer) is int for layer in how["layers"]):
                raise ValueError("layers that are no numbers")
    except MissingFileError:
        return None
    for name, kept in probes.items():
        if not _fits(kept, layers):
            raise InputError(f"{path}: {DAMAGED[0]} (the arrays of {name} do not fit each other); {DAMAGED[1]}")
    return probes, how


def _fits(kept: KeptProbes, layers: int) -> bool:
    """Whether there is a finite probe for every fold and layer."""
    probes, folds, labels = kept.probes, kept.folds, kept.labels
    if [array.dtype.name for array in (probes, folds, labels)] != ["float32", "int16", "int8"]:
        return False
    if probes.ndim != 3 or folds.ndim != 2 or not folds.size or folds.min() < 0 or not np.isfinite(probes).all():
        return False
    fits = len(folds) * (int(folds.max()) + 1)
    return probes.shape[:2] == (fits, layers) and labels.shape == folds.shape[1:]
