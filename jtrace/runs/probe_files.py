"""Files of probes: every fit of a cross-validation, kept so that it can be tested on other sets and checkpoints.

Axes: F fits (folds of all repeats, repeats-major), L layers, D width, R repeats, N rows.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from jtrace.errors import InputError
from jtrace.probing.raw_probes import KeptProbes
from jtrace.probing.vectors import VECTORS_KEY
from jtrace.runs.arrays import write_arrays

# Names of sets are stems of files, in which there is no slash.
FOLDS, LABELS = "/folds", "/labels"


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
        with safe_open(path, "numpy") as file:
            how = dict(json.loads(file.metadata()[VECTORS_KEY]))
            names = sorted(key for key in file.keys() if "/" not in key and (sets is None or key in sets))  # noqa: SIM118
            found = {
                name: KeptProbes(*(file.get_tensor(name + part) for part in ("", FOLDS, LABELS))) for name in names
            }
        layers = len(how["layers"])
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, " ".join(str(error).split())) from None
    for name, kept in found.items():
        if not _fits(kept, layers):
            raise _damaged(path, f"the arrays of {name} do not fit each other")
    return found, how


def _fits(kept: KeptProbes, layers: int) -> bool:
    """Whether there is a finite probe for every fold and layer."""
    probes, folds, labels = kept.probes, kept.folds, kept.labels
    if probes.ndim != 3 or folds.ndim != 2 or not folds.size or folds.min() < 0 or not np.isfinite(probes).all():
        return False
    fits = len(folds) * (int(folds.max()) + 1)
    return probes.shape[:2] == (fits, layers) and labels.shape == folds.shape[1:]


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: cannot be read as probes ({reason}); delete it and trace its checkpoint again")
