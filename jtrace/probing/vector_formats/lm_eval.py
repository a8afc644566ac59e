"""Files of lm-eval's `--model steered`: `{hookpoint: {steering_vector, steering_coefficient, action, …}}`.

Source: lm-eval 0.4.13, `lm_eval/models/hf_steered.py` (`steer_path`). A hookpoint is a module of `model.base_model`, to
whose output coefficient × vector is added at all positions: of the block `layers.15`, the output of block 15, which is
jtrace's layer 15. Its path is the block's in the model (`model.layers.15`) without the first part, the base model.

jtrace writes vector and strength apart, and reads their product. lm-eval takes each hookpoint's other keys for its own
alone, so that metadata lie there, under `jtrace`.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtrace.checkpoints.formats.mapped_file import quote
from jtrace.checkpoints.formats.torch_file import read_dicts
from jtrace.checkpoints.formats.torch_writer import torch_bytes
from jtrace.errors import InputError
from jtrace.models.families import FAMILIES
from jtrace.probing.vector_formats.content import VECTORS_KEY, FileContent, LayerVector, layer_key
from jtrace.runtime.foreign import cause

# A tensor may repeat a few bytes, so that a small file stands for many values.
MOST_VALUES = 1 << 26
_ADDS = "steering vectors are added (action 'add', no bias, no head_index)"


def encode(vector: LayerVector) -> bytes:
    """Makes a file that `torch.load` opens, also with weights_only=True; strength is the coefficient.

    Raises:
        InputError: it is not known how the model's blocks are called.
    """
    hookpoint = _hookpoint(vector.model_type)
    return torch_bytes(
        {
            hookpoint.format(layer): {
                "steering_vector": row,
                "steering_coefficient": float(vector.strength),
                "action": "add",
                "bias": None,
                "head_index": None,
                VECTORS_KEY: vector.about,
            }
            for layer, row in vector.rows.items()
        }
    )


def read(path: Path) -> FileContent:
    """Reads coefficient × vector of each block; nothing in the file is run.

    Raises:
        MissingFileError, InputError: as `read_dicts`, or a hookpoint is no block, or what is done there is not adding.
    """
    arrays, abouts, values = {}, ["{}"], 0
    for hookpoint, entry in read_dicts(path).items():
        try:
            row, about = _row(entry)
            key = layer_key(_layer(hookpoint))
        except (ValueError, OverflowError) as error:
            raise InputError(f"{path}: hookpoint {quote(hookpoint)}: {cause(error)}") from None
        values += row.size
        if key in arrays or values > MOST_VALUES:
            what = "a second one for its block" if key in arrays else f"more than {MOST_VALUES} values in all"
            raise InputError(f"{path}: hookpoint {quote(hookpoint)}: {what}; save the file again")
        arrays[key] = row
        abouts.append(about)
    return FileContent(arrays, abouts[-1])


def _row(entry: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """Coefficient × vector, and the metadata beside it.

    Raises:
        ValueError: anything but a vector that is added.
    """
    vector, coefficient = entry.get("steering_vector"), entry.get("steering_coefficient", 1.0)
    if entry.get("action") != "add" or entry.get("bias") is not None or entry.get("head_index") is not None:
        raise ValueError(f"does something else; {_ADDS}")
    if not isinstance(vector, np.ndarray) or vector.ndim != 1 or vector.size > MOST_VALUES:
        raise ValueError("its steering_vector is no tensor [width]; save one")
    if isinstance(coefficient, np.ndarray) and coefficient.size == 1:
        coefficient = coefficient.item()
    if not isinstance(coefficient, int | float) or not math.isfinite(coefficient):
        raise ValueError("its steering_coefficient is no finite number; save one")
    if not jnp.issubdtype(vector.dtype, jnp.floating):
        raise ValueError(f"its steering_vector is of {vector.dtype}; save floats")
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused with their array's name
        return np.float32(coefficient) * vector.astype(np.float32), str(entry.get(VECTORS_KEY, "{}"))


def _layer(hookpoint: str) -> int:
    """The layer of a block's path, with or without the base model's name.

    Raises:
        ValueError: it is no block's.
    """
    for path in {family.block_module for family in FAMILIES.values()}:
        base, _, inside = path.partition(".")
        before, after = map(re.escape, inside.split("{}"))
        if match := re.fullmatch(rf"(?:{re.escape(base)}\.)?{before}(0|[1-9]\d{{0,3}}){after}", hookpoint, re.ASCII):
            return int(match[1])
    raise ValueError(f"is no block, as {_hookpoint(None).format(15)}; vectors belong to outputs of blocks")


def _hookpoint(model_type: str | None) -> str:
    """The path of a block in the base model, `{}` standing for the layer; Llama's where the family is not known."""
    family = FAMILIES.get("llama" if model_type is None else model_type)
    if family is None:
        raise InputError(f"blocks of a {model_type} have no known name; write another format")
    return family.block_module.partition(".")[2]
