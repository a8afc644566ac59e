"""Layout of params, rows and results on many devices: one mesh and an ordered table of rules.

Tensor parallelism as in arXiv 1909.08053: weights that project into the heads or the MLP are split by output, weights
that project back onto the residual by input. A block then sums over the model axis twice and moves no weights.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params

DATA, MODEL = "data", "model"
# The first rule that matches a param's path counts. Params of blocks have a leading layer axis, which is never split.
RULES: tuple[tuple[re.Pattern[str], PartitionSpec], ...] = tuple(
    (re.compile(pattern), spec)
    for pattern, spec in (
        (r"blocks/(attention/[qkv]|mlp/(gate|up))/weight", PartitionSpec(None, MODEL, None)),
        (r"blocks/(attention/[qkv]|mlp/(gate|up))/bias", PartitionSpec(None, MODEL)),
        (r"blocks/(attention/o|mlp/down)/weight", PartitionSpec(None, None, MODEL)),
        (r"blocks/mlp/(gate|up)", PartitionSpec(None, None, MODEL, None)),
        (r"blocks/mlp/down", PartitionSpec(None, None, None, MODEL)),
        (r"embedding|head", PartitionSpec(MODEL, None)),
        # Norms, and biases of outputs that are summed: kilobytes. A norm of queries takes its slice of the whole.
        (r".*", PartitionSpec()),
    )
)


@dataclass(frozen=True)
class Piece:
    """A part of a param that lies on one or more devices of this process, the same on each.

    Attributes:
        index: place of the part, a slice with start and stop for every axis.
        devices: the devices that hold it; None is JAX's default device.
    """

    index: tuple[slice, ...]
    devices: tuple[jax.Device | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(part.stop - part.start for part in self.index)


@dataclass(frozen=True)
class Layout:
    """A mesh of two axes: `data` splits rows, `model` splits params. Hashable: a key of compilations."""

    mesh: Mesh

    def __str__(self) -> str:
        return f"{DATA}:{self.data},{MODEL}:{self.model}"

    @property
    def data(self) -> int:
        return self.mesh.shape[DATA]

    @property
    def model(self) -> int:
        return self.mesh.shape[MODEL]

    @property
    def replicated(self) -> NamedSharding:
        """Sharding of an array that is whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def rows(self) -> NamedSharding:
        """Sharding of an array whose first axis is split over `data`."""
        return NamedSharding(self.mesh, PartitionSpec(DATA))

    @property
    def each(self) -> NamedSharding:
        """Sharding of an array whose first axis is split over all devices."""
        return NamedSharding(self.mesh, PartitionSpec((DATA, MODEL)))

    def sharding(self, path: str, shape: tuple[int, ...]) -> NamedSharding:
        """Returns the sharding of a param by its path ("blocks/attention/q/weight") and shape.

        Embedding and head are whole on every device where the model axis does not divide the vocabulary: padding them
        would change the params' shapes, and a few hundred megabytes are no reason to refuse a model.
        """
        spec = next(spec for pattern, spec in RULES if pattern.fullmatch(path))
        if any(size % self.mesh.shape[axis] for size, axis in zip(shape, spec, strict=False) if axis):
            spec = PartitionSpec()
        return NamedSharding(self.mesh, spec)

    def place(self, array: np.ndarray | Array, sharding: NamedSharding) -> Array:
        """Lays out on the mesh an array that every process holds whole; needs no communication."""
        host = np.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def pieces(layout: Layout | None, path: str, shape: tuple[int, ...]) -> list[Piece]:
    """Returns the distinct pieces of a param that this process's devices hold; without a layout, the whole param."""
    if layout is None:
        return [Piece(tuple(slice(0, size) for size in shape), (None,))]
    devices_of: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
    for device, index in layout.sharding(path, shape).addressable_devices_indices_map(shape).items():
        spans = (part.indices(size) for part, size in zip(index or (), shape, strict=True))
        devices_of.setdefault(tuple((start, stop) for start, stop, _ in spans), []).append(device)
    return [Piece(tuple(slice(*span) for span in spans), tuple(devices)) for spans, devices in devices_of.items()]


@dataclass
class Param:
    """One param on its way to the devices: its distinct pieces, and a buffer that holds each."""

    shape: tuple[int, ...]
    pieces: list[Piece]
    buffers: list[Array]


@dataclass
class Staged:
    """The params of one checkpoint, read and checked, on their way to the devices.

    Attributes:
        params: params by path; `placed` empties it.
    """

    config: DecoderConfig
    layout: Layout | None
    params: dict[str, Param]

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that are still here."""
        return sum(buffer.nbytes for param in self.params.values() for buffer in param.buffers)

    def placed(self) -> Params:
        """Moves the params to their devices, one after another; each buffer is dropped here once it has arrived.

        Without a layout they go to JAX's default device. Buffers that are in the right place are not copied. Call it
        once, from the thread that computes.
        """
        params = {}
        while self.params:
            path = next(iter(self.params))
            # Waiting keeps all params but one from being in memory twice.
            params[path] = jax.block_until_ready(self._moved(path, self.params.pop(path)))
        return unflatten_dict(params, sep="/")

    def _moved(self, path: str, param: Param) -> Array:
        if self.layout is None:
            (buffer,), home = param.buffers, jax.local_devices()[0]
            return buffer if home in buffer.devices() else jax.device_put(buffer, home)
        arrays = [
            jax.device_put(buffer, device)
            for piece, buffer in zip(param.pieces, param.buffers, strict=True)
            for device in piece.devices
        ]
        sharding = self.layout.sharding(path, param.shape)
        return jax.make_array_from_single_device_arrays(param.shape, sharding, arrays)


def parse_mesh(text: str, devices: Sequence[jax.Device]) -> Layout:
    """Reads the layout that `--mesh=data:4,model:2` asks for: axes in any order; an axis that is not named is 1.

    Raises:
        InputError: an axis is unknown, given twice or no positive number, or the product is not the number of devices.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = (word.strip() for word in part.partition(":"))
        if axis not in (DATA, MODEL):
            raise InputError(
                f"--mesh={text}: {axis!r} is no axis of the mesh; name {DATA} and {MODEL}, as in data:4,model:2"
            )
        if axis in sizes:
            raise InputError(f"--mesh={text}: gives the axis {axis} twice; give it once")
        if not (size.isascii() and size.isdigit() and int(size)):
            raise InputError(f"--mesh={text}: the size of {axis} is {size!r}; give a positive whole number")
        sizes[axis] = int(size)
    data, model = sizes.get(DATA, 1), sizes.get(MODEL, 1)
    if data * model != len(devices):
        raise InputError(
            f"--mesh={text}: is a mesh of {data * model} devices, and there are {len(devices)}; "
            f"give sizes whose product is {len(devices)}"
        )
    return _layout(data, model, devices)


def default_layout(devices: Sequence[jax.Device]) -> Layout | None:
    """Returns a layout with all devices on the data axis; None for a single device, which needs no mesh."""
    return _layout(len(devices), 1, devices) if len(devices) > 1 else None


def check_fits(layout: Layout, config: DecoderConfig, where: str) -> None:
    """Checks that the size of the model axis divides everything that is split over it.

    Raises:
        InputError: it does not divide the heads, the key/value heads or the MLP's width; names the sizes that would.
    """
    split = {"heads": config.heads, "key/value heads": config.kv_heads, "MLP features": config.mlp_width}
    uneven = [f"{size} {name}" for name, size in split.items() if size % layout.model]
    if uneven:
        common = math.gcd(*split.values())
        fitting = [str(size) for size in range(1, common + 1) if common % size == 0]
        raise InputError(
            f"{where}: a model axis of {layout.model} does not divide its {' and '.join(uneven)}; "
            f"give --mesh a model axis of {' or '.join(fitting)}"
        )


def _layout(data: int, model: int, devices: Sequence[jax.Device]) -> Layout:
    # Devices that share a model's sums are neighbours, on one host where they fit.
    axes = (AxisType.Auto, AxisType.Auto)
    return Layout(jax.make_mesh((data, model), (DATA, MODEL), axis_types=axes, devices=devices))
