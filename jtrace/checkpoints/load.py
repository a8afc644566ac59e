"""Hugging Face folders → stacked Flax params: strict, cast on the way, one tensor on the host at a time."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jax.typing import DTypeLike
from jaxtyping import Array

from jtrace.checkpoints.formats.weights import TensorInfo, iter_weight_files, tensor_infos
from jtrace.errors import InputError, StoppedError
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params, abstract_params
from jtrace.models.families import read_model_config
from jtrace.models.families.family import Family, Part
from jtrace.models.sharding import Layout, Param, Staged, check_fits, pieces

FLOAT_KINDS = frozenset({"float32", "float16", "bfloat16"})
STACKED = "blocks/"


@dataclass(frozen=True)
class Destination:
    """Where a tensor of a file goes: a param, and its layer in the stack (None outside the blocks).

    Attributes:
        shape: of the tensor in the file.
        part: which part of the tensor, if it holds several params, and how many heads it is divided by.
    """

    param: str
    layer: int | None
    shape: tuple[int, ...]
    part: Part | None = None
    heads: int = 1

    def of(self, tensor: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
        """What of the tensor goes into a piece of the param (`Piece.index`); of a part, whole heads."""
        if self.layer is not None:
            index = index[1:]
        if self.part is None:
            return tensor[index]
        by_head = tensor.reshape(self.heads, self.part.of, -1, *tensor.shape[1:])[:, self.part.index]
        rows, head_dim = index[0], by_head.shape[1]
        # Cut before the copy, so that no more of the file is touched than is wanted.
        wanted = by_head[rows.start // head_dim : rows.stop // head_dim]
        return wanted.reshape(-1, *tensor.shape[1:])[:, *index[1:]]


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
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions and its disk") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}); mend it, or copy it again from where it came") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds a {type(values).__name__}, not a JSON object; copy it again")
    return values


def destinations(config: DecoderConfig, family: Family) -> dict[str, list[Destination]]:
    """Every tensor that a checkpoint of this architecture must hold, by its name in the files, and where it goes."""
    table: dict[str, list[Destination]] = {}
    for param, leaf in flatten_dict(abstract_params(config, jnp.dtype(jnp.float32)), sep="/").items():
        stacked, part = param.startswith(STACKED), family.parts.get(param)
        shape = leaf.shape[1:] if stacked else leaf.shape
        if part is not None:
            shape = (part.of * shape[0], *shape[1:])
        for layer in range(config.depth) if stacked else (None,):
            goes_to = Destination(param, layer, shape, part, config.heads)
            table.setdefault(family.names[param].format(layer), []).append(goes_to)
    return table


def names_in_table(found: Mapping[str, TensorInfo], family: Family) -> dict[str, str]:
    """Each tensor's name in the files → its name in the family's table.

    They differ where files use an alias, and where every name has the same words before it: what wraps a model while it
    is trained (`module.` of data parallelism, `_orig_mod.` of torch.compile) is saved as a part of the names.
    """
    wrapper = _wrapper(found, family)
    bare = {name: name.removeprefix(wrapper) for name in found}
    known = set(bare.values())
    return {
        name: alias if (alias := family.aliases.get(own)) and alias not in known else own for name, own in bare.items()
    }


def _wrapper(found: Mapping[str, TensorInfo], family: Family) -> str:
    """Prefix of every name of the files, as seen at the embedding; empty where there is no such thing."""
    embedding = next(iter(family.names.values()))
    before = [name.removesuffix(embedding) for name in found if name.endswith(f".{embedding}")]
    return before[0] if len(before) == 1 and all(name.startswith(before[0]) for name in found) else ""


def check_tensors(
    expected: Mapping[str, list[Destination]],
    found: Mapping[str, TensorInfo],
    config: DecoderConfig,
    family: Family,
    where: Path,
) -> None:
    """Names, shapes and dtypes, strict both ways, all faults of a kind in one message.

    Raises:
        InputError: missing or left-over tensors, a wrong shape, or a dtype that holds no weights.
    """
    names = names_in_table(found, family)
    extra_head = {family.names["head"]} if config.tied_head else set()
    missing = sorted(expected.keys() - set(names.values()))
    left_over = sorted(
        name
        for name, known in names.items()
        if known not in expected and known not in extra_head and not family.ignored.fullmatch(name)
    )
    if missing:
        held = f"hold {_some(left_over or sorted(found))}" if found else "are empty"
        raise InputError(
            f"{where}: {_some(missing)} missing from the weight files, which {held}; they and config.json disagree"
        )
    if left_over:
        raise InputError(
            f"{where}: {_some(left_over)} left over in the weight files; config.json has no place for them"
        )
    for name, info in found.items():
        if names[name] not in expected:
            continue
        shape = expected[names[name]][0].shape
        if info.shape != shape:
            raise InputError(
                f"{where}: tensor '{name}' has shape {list(info.shape)}; config.json asks for {list(shape)}"
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


def staging_device() -> jax.Device | None:
    """The host as a JAX device, for `stage_params`.

    None where JAX runs without its CPU platform (JAX_PLATFORMS=cuda): params are then built on the devices themselves,
    and there is no room to read a checkpoint ahead.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def params_bytes(config: DecoderConfig, dtype: DTypeLike, layout: Layout | None = None) -> int:
    """Bytes of this process's distinct pieces of the params: what `stage_params` takes of the host's memory."""
    leaves = flatten_dict(abstract_params(config, dtype), sep="/").items()
    numbers = sum(math.prod(piece.shape) for path, leaf in leaves for piece in pieces(layout, path, leaf.shape))
    return numbers * jnp.dtype(dtype).itemsize


def load_params(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
) -> tuple[DecoderConfig, Params]:
    """Read a checkpoint folder onto the device, or the devices of a mesh.

    Args:
        folder, dtype, depth, layout: as `stage_params` takes them; pieces are built where they belong.

    Returns:
        The (truncated) architecture and its params, blocks stacked on a leading layer axis.

    Raises:
        InputError: as `stage_params`.
    """
    staged = stage_params(folder, dtype, depth, layout)
    return staged.config, staged.placed()


def stage_params(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
    stage: jax.Device | None = None,
    stop: Event | None = None,
) -> Staged:
    """Read and check a checkpoint folder, without a word to other processes.

    Only the bytes that this process's devices need are read of the weights, so a process of a mesh over several finds
    NaN and infinity in its own pieces alone; all else that may be wrong, every process finds.

    Args:
        folder: config.json and weight files (safetensors or torch .bin, whole or sharded).
        dtype: of the params; tensors are cast as they arrive.
        depth: read only the first blocks; names and shapes of the others are checked all the same.
        layout: which piece of a param lies on which device; None for the whole on JAX's default device.
        stage: where the pieces are built, one copy of each (`staging_device`): no other device is touched, so that this
            may run beside a computation. None for the devices that they go to.
        stop: ends the reading once it is set.

    Raises:
        StoppedError: `stop` was set.
        InputError: the files are damaged, do not hold exactly what config.json describes, or hold NaN or infinity; or
            the layout does not fit the architecture.
    """
    config, family = read_model_config(read_config_json(folder), str(folder / "config.json"))
    if layout is not None:
        check_fits(layout, config, str(folder))
    with nullcontext() if stage is None else jax.default_device(stage):
        expected, found = destinations(config, family), tensor_infos(folder)
        check_tensors(expected, found, config, family, folder)
        names = names_in_table(found, family)
        if config.tied_head:
            _check_tied(folder, family, names)
        config = config.truncated(min(depth or config.depth, config.depth))
        params = _empty_params(config, dtype, layout, on_target=stage is None)
        _fill(params, folder, {name: expected.get(known, ()) for name, known in names.items()}, stop)
    return Staged(config, layout, params)


def _empty_params(config: DecoderConfig, dtype: DTypeLike, layout: Layout | None, on_target: bool) -> dict[str, Param]:
    """A buffer for every distinct piece, on JAX's default device or on the first of the devices that it goes to."""
    params = {}
    for path, leaf in flatten_dict(abstract_params(config, dtype), sep="/").items():
        parts = pieces(layout, path, leaf.shape)
        buffers = [jnp.zeros(part.shape, dtype, device=part.devices[0] if on_target else None) for part in parts]
        params[path] = Param(leaf.shape, parts, buffers)
    return params


def _fill(
    params: Mapping[str, Param], folder: Path, targets: Mapping[str, Sequence[Destination]], stop: Event | None
) -> None:
    """Copy the folder's tensors into the params' buffers.

    Args:
        targets: where each tensor goes; layers above the params' are left out.

    Raises:
        InputError: a tensor is not finite as the params' dtype.
        StoppedError: `stop` was set meanwhile.
    """
    dtype = next(buffer.dtype for param in params.values() for buffer in param.buffers)
    finite: dict[str, list[Array]] = {}
    for file in iter_weight_files(folder):
        previous = None
        for name in file.tensors:
            if stop is not None and stop.is_set():
                raise StoppedError
            for target in targets[name]:
                param = params[target.param]
                if target.layer is not None and target.layer >= param.shape[0]:
                    continue
                layer = None if target.layer is None else np.int32(target.layer)
                for at, piece in enumerate(param.pieces):
                    tensor = target.of(file.read(name), piece.index)
                    param.buffers[at], ok = _place(param.buffers[at], tensor, layer)
                    finite.setdefault(name, []).append(ok)
                    # One transfer ahead: enough to overlap reading and copying, too little to fill the device.
                    if previous is not None:
                        previous.block_until_ready()
                    previous = ok
        jax.block_until_ready(list(finite.values()))
    bad = sorted(name for name, flags in jax.device_get(finite).items() if not all(flags))
    if bad:
        raise InputError(f"{folder}: NaN or infinite values as {dtype.name} in {_some(bad)}; not traceable")


def _check_tied(folder: Path, family: Family, names: Mapping[str, str]) -> None:
    """A tied checkpoint may repeat the embedding as its head (old files do), but not contradict it."""
    found = {param: name for name in names for param in ("embedding", "head") if names[name] == family.names[param]}
    if "head" not in found:
        return
    copies: dict[str, np.ndarray] = {}
    for file in iter_weight_files(folder):
        copies |= {name: file.read(name) for name in found.values() if name in file.tensors}
    if not np.array_equal(copies[found["embedding"]], copies[found["head"]]):
        raise InputError(
            f"{folder}: config.json ties head and embedding, but '{found['head']}' differs from "
            f"'{found['embedding']}'; set tie_word_embeddings to false if the head is meant"
        )


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return (
        f"{len(names)} tensors ({shown}{', …' if len(names) > most else ''})" if len(names) > 1 else f"tensor {shown}"
    )
