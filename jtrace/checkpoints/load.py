"""Loading of Hugging Face folders into stacked Flax params: strict, cast on the way, one tensor at a time."""

import itertools
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
from jtrace.models.families.family import Family
from jtrace.models.sharding import Layout, Param, Staged, check_fits, pieces
from jtrace.runtime.small_files import MissingFileError, read_json_object

FLOAT_KINDS = frozenset({"float32", "float16", "bfloat16"})
STACKED = "blocks/"


@dataclass(frozen=True)
class Below:
    """One of several params that lie in one tensor, one below the other: its rows."""

    first: int
    count: int


@dataclass(frozen=True)
class ByHead:
    """One of `count` params that lie in one tensor head by head: its rows are [heads, count, head_dim]."""

    index: int
    count: int
    heads: int


@dataclass(frozen=True)
class Destination:
    """The destination of a tensor of a file, or of a part of it: a param, or one layer (and expert) of it.

    Attributes:
        place: indices of the param's leading axes: layer and expert; empty outside the blocks.
        shape: shape of the tensor in the file.
        part: the part of the tensor that it is, if the tensor holds several params.
        transposed: the tensor is [in, out].
    """

    param: str
    place: tuple[int, ...]
    shape: tuple[int, ...]
    part: Below | ByHead | None = None
    transposed: bool = False

    def cut(self, tensor: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
        """Cuts from the tensor what goes into a piece of the param (`Piece.index`); for a part by head, whole heads."""
        index = index[len(self.place) :]
        tensor = tensor.T if self.transposed else tensor
        match self.part:
            case Below(first, count):
                return tensor[first : first + count][index]
            case ByHead(at, count, heads):
                by_head = tensor.reshape(heads, count, -1, *tensor.shape[1:])[:, at]
                rows, head_dim = index[0], by_head.shape[1]
                # Cut before the copy, so that no more of the file is read than needed.
                wanted = by_head[rows.start // head_dim : rows.stop // head_dim]
                return wanted.reshape(-1, *tensor.shape[1:])[:, *index[1:]]
        return tensor[index]


def read_config_json(folder: Path) -> dict[str, Any]:
    """Reads a folder's config.json as a dict.

    Raises:
        InputError: the folder or the file is missing, or it is not a JSON object.
    """
    path = folder / "config.json"
    try:
        return read_json_object(path, remedy="mend it, or copy it again from where it came")
    except MissingFileError:
        raise InputError(f"{path}: not found; a checkpoint is a Hugging Face folder with config.json") from None


def destinations(config: DecoderConfig, family: Family) -> dict[str, list[Destination]]:
    """Returns destinations of all tensors that a checkpoint of this architecture must hold, by name in files."""
    shapes = {
        param: leaf.shape
        for param, leaf in flatten_dict(abstract_params(config, jnp.dtype(jnp.float32)), sep="/").items()
    }
    params_of: dict[str, list[str]] = {}
    for param in family.names:
        if param in shapes:
            params_of.setdefault(family.names[param], []).append(param)
    unnamed = sorted(shapes.keys() - family.names.keys())
    if unnamed:
        raise KeyError(f"no tensor is named for {', '.join(unnamed)}")
    table: dict[str, list[Destination]] = {}
    for template, params in params_of.items():
        leading = template.count("{}")
        transposed = family.transposed is not None and bool(family.transposed.fullmatch(template))
        rows = [shapes[param][leading] if len(shapes[param]) > leading else 1 for param in params]
        for at, param in enumerate(params):
            axes, shape = shapes[param][:leading], shapes[param][leading:]
            part: Below | ByHead | None = None
            if len(params) > 1:
                by_head = family.fused_by_head
                part = ByHead(at, len(params), config.heads) if by_head else Below(sum(rows[:at]), rows[at])
                shape = (sum(rows), *shape[1:])
            in_file = shape[::-1] if transposed else shape
            for place in itertools.product(*map(range, axes)):
                goes_to = Destination(param, place, in_file, part, transposed)
                table.setdefault(template.format(*place), []).append(goes_to)
    return table


def names_in_table(infos: Mapping[str, TensorInfo], family: Family) -> dict[str, str]:
    """Maps each tensor's name in the files to its name in the family's table.

    They differ where files use an alias, and where all names have a common prefix: wrappers of a model in training
    (`module.` of data parallelism, `_orig_mod.` of torch.compile) become a part of the saved names.
    """
    wrapper = _wrapper(infos, family)
    bare = {name: name.removeprefix(wrapper) for name in infos}
    embedding = next(iter(family.names.values()))
    if embedding not in bare.values() and embedding.removeprefix(family.prefix) in bare.values():
        apart = {family.names["head"], *family.aliases}
        bare = {name: plain if plain in apart else family.prefix + plain for name, plain in bare.items()}
    known = set(bare.values())
    return {
        name: alias if (alias := family.aliases.get(plain)) and alias not in known else plain
        for name, plain in bare.items()
    }


def _wrapper(infos: Mapping[str, TensorInfo], family: Family) -> str:
    """Returns the common prefix of all names in the files, as seen at the embedding; empty where there is none."""
    embedding = next(iter(family.names.values()))
    before = [name.removesuffix(embedding) for name in infos if name.endswith(f".{embedding}")]
    return before[0] if len(before) == 1 and all(name.startswith(before[0]) for name in infos) else ""


def check_tensors(
    expected: Mapping[str, list[Destination]],
    infos: Mapping[str, TensorInfo],
    config: DecoderConfig,
    family: Family,
    where: Path,
) -> None:
    """Checks names, shapes and dtypes, strictly in both directions; one message for all faults of a kind.

    Raises:
        InputError: tensors are missing or left over, a shape is wrong, or a dtype cannot hold weights.
    """
    names = names_in_table(infos, family)
    extra_head = {family.names["head"]} if config.tied_head else set()
    missing = sorted(expected.keys() - set(names.values()))
    left_over = sorted(
        name
        for name, known in names.items()
        if known not in expected and known not in extra_head and not family.ignored.fullmatch(name)
    )
    if missing:
        held = f"hold {_some(left_over or sorted(infos))}" if infos else "are empty"
        raise InputError(
            f"{where}: {_some(missing)} missing from the weight files, which {held}; they and config.json disagree"
        )
    if left_over:
        raise InputError(
            f"{where}: {_some(left_over)} left over in the weight files; config.json has no place for them"
        )
    for name, info in infos.items():
        if names[name] not in expected:
            continue
        shape = expected[names[name]][0].shape
        if info.shape != shape:
            raise InputError(
                f"{where}: tensor '{name}' has shape {list(info.shape)}; config.json asks for {list(shape)}"
            )
        if info.dtype.name not in FLOAT_KINDS:
            raise InputError(f"{where}: tensor '{name}' is {info.dtype.name}; float32, float16 or bfloat16 is needed")


def check_folder(
    folder: Path, config: DecoderConfig, family: Family
) -> tuple[dict[str, list[Destination]], dict[str, TensorInfo]]:
    """Holds a folder's tensors against its config, from their headers alone.

    Returns:
        The tensors that it must hold, and those that it holds.

    Raises:
        InputError: as `check_tensors`, or the files are damaged.
    """
    expected, infos = destinations(config, family), tensor_infos(folder)
    check_tensors(expected, infos, config, family, folder)
    return expected, infos


@partial(jax.jit, donate_argnums=0)
def _place(param: Array, tensor: Array, place: tuple[Any, ...]) -> tuple[Array, Array]:
    """Copies a tensor into its place in the param; also returns whether it is finite after the cast."""
    cast = tensor.astype(param.dtype)
    finite = jnp.isfinite(cast).all()
    # The donated buffer is written even for a whole param: a device array must not alias the mapped file.
    # It is a slice update, since an indexed one copies a bfloat16 stack on the CPU (jax 0.10.1).
    start = [*place, *[np.int32(0)] * tensor.ndim]
    return jax.lax.dynamic_update_slice(param, cast.reshape(*[1] * len(place), *tensor.shape), start), finite


def staging_device() -> jax.Device | None:
    """Returns the host as a JAX device, for `stage_params`.

    It is None where JAX runs without its CPU platform (JAX_PLATFORMS=cuda): params are then built on the devices, which
    have no room to read a checkpoint ahead.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def params_bytes(config: DecoderConfig, dtype: DTypeLike, layout: Layout | None = None) -> int:
    """Returns the bytes of this process's distinct pieces of the params, which `stage_params` takes on the host."""
    leaves = flatten_dict(abstract_params(config, dtype), sep="/").items()
    numbers = sum(math.prod(piece.shape) for path, leaf in leaves for piece in pieces(layout, path, leaf.shape))
    return numbers * jnp.dtype(dtype).itemsize


def load_params(
    folder: Path,
    dtype: DTypeLike,
    depth: int | None = None,
    layout: Layout | None = None,
) -> tuple[DecoderConfig, Params]:
    """Reads a checkpoint folder onto the device, or the devices of a mesh.

    Args:
        folder, dtype, depth, layout: as in `stage_params`; pieces are built on their devices.

    Returns:
        The (truncated) architecture and its params, blocks stacked on a leading layer axis.

    Raises:
        InputError: as in `stage_params`.
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
    """Reads and checks a checkpoint folder, without communication between processes.

    Of the weights only the bytes for this process's devices are read. So on a mesh over several processes each finds
    NaN and infinity in its own pieces only; all other faults are found by every process.

    Args:
        folder: config.json and weight files (safetensors or torch .bin, whole or sharded).
        dtype: dtype of the params; tensors are cast as they arrive.
        depth: number of first blocks to read; names and shapes of the others are checked too.
        layout: the layout of params on devices; None for whole params on JAX's default device.
        stage: the device where one copy of each piece is built (`staging_device`). No other device is touched, so that
            this may run beside a computation. None for the devices that the pieces go to.
        stop: event that ends the reading.

    Raises:
        StoppedError: `stop` was set.
        InputError: the files are damaged, do not hold exactly what config.json describes, or hold NaN or infinity; or
            the layout does not fit the architecture.
    """
    config, family = read_model_config(read_config_json(folder), str(folder / "config.json"))
    if layout is not None:
        check_fits(layout, config, str(folder))
    with nullcontext() if stage is None else jax.default_device(stage):
        expected, infos = check_folder(folder, config, family)
        names = names_in_table(infos, family)
        if config.tied_head:
            _check_tied(folder, family, names)
        config = config.truncated(min(depth or config.depth, config.depth))
        params = _empty_params(config, dtype, layout, on_target=stage is None)
        _fill(params, folder, {name: expected.get(known, ()) for name, known in names.items()}, stop)
    return Staged(config, layout, params)


def _empty_params(config: DecoderConfig, dtype: DTypeLike, layout: Layout | None, on_target: bool) -> dict[str, Param]:
    """Makes a buffer for every distinct piece, on JAX's default device or on the first device that it goes to."""
    params = {}
    for path, leaf in flatten_dict(abstract_params(config, dtype), sep="/").items():
        parts = pieces(layout, path, leaf.shape)
        buffers = [jnp.zeros(part.shape, dtype, device=part.devices[0] if on_target else None) for part in parts]
        params[path] = Param(leaf.shape, parts, buffers)
    return params


def _fill(
    params: Mapping[str, Param], folder: Path, targets: Mapping[str, Sequence[Destination]], stop: Event | None
) -> None:
    """Copies the folder's tensors into the params' buffers.

    Args:
        targets: destinations of each tensor; layers above those of the params are left out.

    Raises:
        InputError: a tensor is not finite as the params' dtype.
        StoppedError: `stop` was set while reading.
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
                if target.place and target.place[0] >= param.shape[0]:
                    continue
                place = tuple(np.int32(at) for at in target.place)
                for at, piece in enumerate(param.pieces):
                    tensor = target.cut(file.read(name), piece.index)
                    param.buffers[at], ok = _place(param.buffers[at], tensor, place)
                    finite.setdefault(name, []).append(ok)
                    # One transfer runs ahead: enough to overlap reading and copying, too little to fill the device.
                    if previous is not None:
                        previous.block_until_ready()
                    previous = ok
        jax.block_until_ready(list(finite.values()))
    bad = sorted(name for name, flags in jax.device_get(finite).items() if not all(flags))
    if bad:
        raise InputError(f"{folder}: NaN or infinite values as {dtype.name} in {_some(bad)}; not traceable")


def _check_tied(folder: Path, family: Family, names: Mapping[str, str]) -> None:
    """Checks that a tied checkpoint's head, if it is stored as in old files, equals the embedding."""
    tensors = {param: name for name in names for param in ("embedding", "head") if names[name] == family.names[param]}
    if "head" not in tensors:
        return
    copies: dict[str, np.ndarray] = {}
    for file in iter_weight_files(folder):
        copies |= {name: file.read(name) for name in tensors.values() if name in file.tensors}
    if not np.array_equal(copies[tensors["embedding"]], copies[tensors["head"]]):
        raise InputError(
            f"{folder}: config.json ties head and embedding, but '{tensors['head']}' differs from "
            f"'{tensors['embedding']}'; set tie_word_embeddings to false if the head is meant"
        )


def _some(names: list[str], most: int = 3) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return (
        f"{len(names)} tensors ({shown}{', …' if len(names) > most else ''})" if len(names) > 1 else f"tensor {shown}"
    )
