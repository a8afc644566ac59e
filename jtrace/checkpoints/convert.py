"""Hugging Face folders → stacked Flax params: strict, cast on the way, one tensor on the host at a time."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.typing import DTypeLike
from jaxtyping import Array

from jtrace.checkpoints.weights import TensorInfo, iter_weight_files, tensor_infos
from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params, abstract_params
from jtrace.models.families import Family, read_model_config

FLOAT_KINDS = frozenset({"float32", "float16", "bfloat16"})
STACKED = "blocks/"


@dataclass(frozen=True)
class Destination:
    """Where one tensor of a file goes: a param, and its layer in the stack (None outside the blocks)."""

    param: str
    layer: int | None
    shape: tuple[int, ...]


def read_config_json(folder: Path) -> dict[str, Any]:
    """The folder's config.json as a dict.

    Raises:
        InputError: the folder or the file is not there, or it is not a JSON object.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; a checkpoint is a Hugging Face folder with config.json") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); download the checkpoint again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds a {type(values).__name__}, not a JSON object; download the checkpoint again")
    return values


def destinations(config: DecoderConfig, family: Family) -> dict[str, Destination]:
    """Every tensor that a checkpoint of this architecture must hold, by its name in the files."""
    table = {}
    for param, leaf in flatten_dict(abstract_params(config, jnp.dtype(jnp.float32)), sep="/").items():
        if param.startswith(STACKED):
            for layer in range(config.depth):
                table[family.names[param].format(layer)] = Destination(param, layer, leaf.shape[1:])
        else:
            table[family.names[param]] = Destination(param, None, leaf.shape)
    return table


def check_tensors(
    expected: Mapping[str, Destination],
    found: Mapping[str, TensorInfo],
    config: DecoderConfig,
    family: Family,
    where: Path,
) -> None:
    """Names, shapes and dtypes, strict both ways, all faults of a kind in one message.

    Raises:
        InputError: missing or left-over tensors, a wrong shape, or a dtype that holds no weights.
    """
    extra_head = {family.names["head"]} if config.tied_head else set()
    missing = sorted(expected.keys() - found.keys())
    left_over = sorted(n for n in found.keys() - expected.keys() - extra_head if not family.ignored.fullmatch(n))
    if missing:
        raise InputError(f"{where}: {_some(missing)} missing from the weight files; they and config.json disagree")
    if left_over:
        raise InputError(
            f"{where}: {_some(left_over)} left over in the weight files; config.json has no place for them"
        )
    for name, destination in expected.items():
        info = found[name]
        if info.shape != destination.shape:
            raise InputError(
                f"{where}: tensor '{name}' has shape {list(info.shape)}; config.json asks for {list(destination.shape)}"
            )
        if info.dtype.name not in FLOAT_KINDS:
            raise InputError(f"{where}: tensor '{name}' is {info.dtype.name}; float32, float16 or bfloat16 is needed")


@partial(jax.jit, donate_argnums=0)
def _place(param: Array, tensor: Array, layer: Array | None) -> tuple[Array, Array]:
    """Copy a tensor into its param, or into its layer of the stack; also says whether it is finite after the cast."""
    cast = tensor.astype(param.dtype)
    finite = jnp.isfinite(cast).all()
    # Written into the donated buffer even where it is the whole param: a device array must not alias the mapped file.
    # A slice update, as an indexed one copies a bfloat16 stack on the CPU (jax 0.10.1).
    if layer is None:
        return jax.lax.dynamic_update_slice(param, cast, (0,) * param.ndim), finite
    return jax.lax.dynamic_update_index_in_dim(param, cast, layer, 0), finite


def load_params(folder: Path, dtype: DTypeLike, depth: int | None = None) -> tuple[DecoderConfig, Params]:
    """Read a checkpoint folder onto the device.

    Args:
        folder: config.json and weight files (safetensors or torch .bin, whole or sharded).
        dtype: of the params; tensors are cast on the device as they arrive.
        depth: read only the first blocks; names and shapes of the others are checked all the same.

    Returns:
        The (truncated) architecture and its params, blocks stacked on a leading layer axis.

    Raises:
        InputError: the files are damaged, do not hold exactly what config.json describes, or hold NaN or infinity.
    """
    config, family = read_model_config(read_config_json(folder), str(folder / "config.json"))
    expected, found = destinations(config, family), tensor_infos(folder)
    check_tensors(expected, found, config, family, folder)
    if config.tied_head and family.names["head"] in found:
        _check_tied(folder, family)
    config = config.truncated(min(depth or config.depth, config.depth))

    params = {
        path: jnp.zeros(leaf.shape, dtype)
        for path, leaf in flatten_dict(abstract_params(config, dtype), sep="/").items()
    }
    finite: dict[str, Array] = {}
    for file in iter_weight_files(folder):
        previous = None
        for name in file.tensors:
            target = expected.get(name)
            if target is None or (target.layer is not None and target.layer >= config.depth):
                continue
            layer = None if target.layer is None else np.int32(target.layer)
            params[target.param], finite[name] = _place(params[target.param], file.read(name), layer)
            # One transfer ahead: enough to overlap reading and copying, too little to fill the device.
            if previous is not None:
                previous.block_until_ready()
            previous = finite[name]
        jax.block_until_ready(list(finite.values()))
    bad = sorted(name for name, flag in jax.device_get(finite).items() if not flag)
    if bad:
        raise InputError(f"{folder}: NaN or infinite values as {jnp.dtype(dtype).name} in {_some(bad)}; not traceable")
    return config, unflatten_dict(params, sep="/")


def _check_tied(folder: Path, family: Family) -> None:
    """A tied checkpoint may repeat the embedding as its head (old files do), but not contradict it."""
    copies: dict[str, np.ndarray] = {}
    for file in iter_weight_files(folder):
        copies |= {n: file.read(n) for n in (family.names["embedding"], family.names["head"]) if n in file.tensors}
    if not np.array_equal(copies[family.names["embedding"]], copies[family.names["head"]]):
        raise InputError(
            f"{folder}: config.json ties head and embedding, but '{family.names['head']}' differs from "
            f"'{family.names['embedding']}'; set tie_word_embeddings to false if the head is meant"
        )


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return (
        f"{len(names)} tensors ({shown}{', …' if len(names) > most else ''})" if len(names) > 1 else f"tensor {shown}"
    )
