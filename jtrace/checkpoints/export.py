"""Export of params to Hugging Face folders that transformers reads: safetensors, config.json and tokeniser."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from jtrace.checkpoints.content import holds_weights, read_content
from jtrace.checkpoints.formats.weights import tensor_infos
from jtrace.checkpoints.load import ByHead, Destination, destinations, names_in_table, read_config_json
from jtrace.checkpoints.orbax import NO_FILES, copy_companions, is_store, read_checkpoint, save_store, stored_dtype
from jtrace.errors import InputError
from jtrace.models.decoder import Params
from jtrace.models.families import read_model_config
from jtrace.runtime.atomic import atomic_folder, check_unused
from jtrace.runtime.small_files import read_json

SHARD_BYTES = 5 << 30
# Fields that would send transformers to code that is not there, or to a dtype that the weights do not have.
DROPPED = ("auto_map", "torch_dtype")
NOTE = "jtrace_conversion.json"  # what the folder beside it was converted from


def convert_folder(folder: Path, out: Path, to: str, dtype: str = "auto") -> np.dtype:
    """Reads a Hugging Face folder or an Orbax checkpoint, and writes it as one of the two.

    Args:
        out: a new or empty folder.
        to: "orbax" or "hf".
        dtype: dtype to write; `auto` is that of the stored tensors, or float32 where they differ.

    Returns:
        The dtype written.

    Raises:
        InputError: `folder` cannot be read, or `out` cannot be written.
    """
    check_unused(out)
    values, kind = read_config_json(folder), _dtype_to_write(folder, dtype)
    note = _note(folder, to, kind)
    _, params = read_checkpoint(folder, kind)
    save = save_store if to == "orbax" else save_hf
    save(out, values, params, tokenizer=folder, beside={NOTE: json.dumps(note, indent=2) + "\n"})
    return kind


def is_converted(folder: Path, out: Path, to: str, dtype: str = "auto") -> bool:
    """Tells whether `out` holds what `convert_folder` would write there.

    Raises:
        InputError: `folder` cannot be read.
    """
    try:
        noted = read_json(out / NOTE)
    except InputError:
        return False
    return holds_weights(out) and noted == _note(folder, to, _dtype_to_write(folder, dtype))


def _note(folder: Path, to: str, dtype: np.dtype) -> dict[str, Any]:
    return {"content": json.loads(read_content(folder).to_json()), "to": to, "dtype": dtype.name}


def _dtype_to_write(folder: Path, dtype: str) -> np.dtype:
    return _stored_dtype(folder) if dtype == "auto" else np.dtype(jnp.dtype(dtype))


def save_hf(
    out: Path,
    values: dict[str, Any],
    params: Params,
    tokenizer: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
    beside: Mapping[str, str] = NO_FILES,
) -> None:
    """Writes params as a Hugging Face folder, completely or not at all; one shard at a time is on the host.

    Args:
        out: a new or empty folder.
        values: the config.json that describes the params; its dtype becomes the params'.
        tokenizer: a folder whose tokeniser files are copied.
        beside: texts of further files, by name.

    Raises:
        InputError: the folder holds something, or cannot be written.
    """
    config, family = read_model_config(values, str(out))
    flat = flatten_dict(params, sep="/")
    dtype = np.dtype(flat["embedding"].dtype)
    kept = {key: value for key, value in values.items() if key not in DROPPED}
    table = destinations(config, family)
    shards = list(_shards(table, dtype.itemsize, shard_bytes))
    with atomic_folder(out) as aside:
        copy_companions(aside, kept | {"dtype": dtype.name}, tokenizer, beside)
        weight_map: dict[str, str] = {}
        for number, names in enumerate(shards, 1):
            file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {name: _tensor(flat, table[name]) for name in names}
            save_file(tensors, aside / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(names, file)
        if len(shards) > 1:
            total = sum(math.prod(parts[0].shape) for parts in table.values()) * dtype.itemsize
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            (aside / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(table: dict[str, list[Destination]], itemsize: int, most: int) -> Iterator[list[str]]:
    """Yields the tensors' names, layer by layer, in groups of at most `most` bytes (or of one tensor)."""
    group: list[str] = []
    size = 0

    def layer_of(name: str) -> int:
        place = table[name][0].place
        return place[0] if place else -1

    for name in sorted(table, key=layer_of):
        nbytes = math.prod(table[name][0].shape) * itemsize
        if group and size + nbytes > most:
            yield group
            group, size = [], 0
        group.append(name)
        size += nbytes
    yield group


def _tensor(flat: dict[str, jax.Array], parts: list[Destination]) -> np.ndarray:
    """Assembles one tensor of a file from the params that it holds."""
    arrays = [np.asarray(flat[part.param][part.place]) for part in parts]
    if isinstance(parts[0].part, ByHead):
        heads = parts[0].part.heads
        by_head = [array.reshape(heads, -1, *array.shape[1:]) for array in arrays]
        tensor = np.stack(by_head, axis=1).reshape(parts[0].shape)
    else:
        tensor = np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    return np.asarray(tensor.T if parts[0].transposed else tensor, order="C")  # a number stays one


def _stored_dtype(folder: Path) -> np.dtype:
    if is_store(folder):
        return stored_dtype(folder)
    config, family = read_model_config(read_config_json(folder), str(folder / "config.json"))
    expected, infos = destinations(config, family), tensor_infos(folder)
    names = names_in_table(infos, family)
    # Buffers of old files are not weights, whatever their dtype.
    kinds = {info.dtype.name for name, info in infos.items() if names[name] in expected}
    return np.dtype(jnp.dtype(kinds.pop())) if len(kinds) == 1 else np.dtype(np.float32)
