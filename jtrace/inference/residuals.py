"""Extraction of residuals from params and packed statements.

Axes: L layers, U distinct statements, N statements of a set, D width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.data.tokenizer import check_embedded
from jtrace.errors import InputError
from jtrace.inference.packing import Packed, cheapest_width, pack
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import AttentionBy, Decoder, Output, Params, Slots, abstract_params
from jtrace.models.sharding import Layout
from jtrace.runtime.progress import Bar

# Slots of a forward: enough to keep the matrix units busy, few enough to keep the attention weights small.
BATCH_SLOTS = {"cpu": 2304, "gpu": 16384, "tpu": 16384}
# Beyond this, sums of squares over rows overflow float32, and statistics mean nothing.
LARGEST = 1e15


def default_batch_slots() -> int:
    """Returns the slots of a forward for the kind of device that JAX computes on; an unknown kind counts as a CPU."""
    return BATCH_SLOTS.get(jax.default_backend(), BATCH_SLOTS["cpu"])


@dataclass(frozen=True)
class PackedSets:
    """Several statement sets in one packing.

    Attributes:
        members: by a set's name, the distinct statement that each of its rows is.
        warnings: warnings about the tokens of statements.
    """

    packed: Packed
    members: Mapping[str, Int[np.ndarray, " N"]]
    warnings: tuple[str, ...] = ()


def pack_sets(
    tokens: Mapping[str, Sequence[np.ndarray]], config: DecoderConfig, width: int | None = None
) -> PackedSets:
    """Packs every statement of every set into rows of one width; by default the cheapest for this decoder.

    Raises:
        InputError: a token that the model has no embedding for.
    """
    for name, rows in tokens.items():
        check_embedded(rows, config.vocab_size, name)
    sequences = [ids for rows in tokens.values() for ids in rows]
    packed = pack(sequences, width or cheapest_width(sequences, config))
    stops = np.cumsum([len(rows) for rows in tokens.values()])
    return PackedSets(packed, dict(zip(tokens, np.split(packed.distinct, stops[:-1]), strict=True)))


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device during an extraction, as the compiler plans it.

    Attributes:
        params: all params.
        unread: params that lie on the device but are not read, above all the head.
        arguments: arguments of the forward: the params that it reads, the residuals so far, and one batch.
        outputs: outputs of the forward without the residuals, which it returns in place.
        temporaries: temporary arrays of the forward. On a CPU, bfloat16 params are in it again, as float32.
    """

    params: int
    unread: int
    arguments: int
    outputs: int
    temporaries: int

    @property
    def total(self) -> int:
        return self.unread + self.arguments + self.outputs + self.temporaries


@partial(jax.jit, static_argnames=("decoder", "layout"), donate_argnames=("residuals",))
def _forward(
    params: Params,
    residuals: Float[Array, "L U D"],
    slots: Slots,
    reads: Int[Array, "B R"],
    read_of: Int[Array, "B R"],
    *,
    decoder: Decoder,
    layout: Layout | None,
) -> tuple[Float[Array, "L U D"], Bool[Array, " L"]]:
    def everywhere(array: Array) -> Array:
        return array if layout is None else jax.lax.with_sharding_constraint(array, layout.replicated)

    # Whole on every device, so that any device can compute any layer's statistics, and any process can fetch them.
    captured = everywhere(cast(Output, decoder.apply({"params": params}, slots, reads)).reads)
    usable = (jnp.abs(captured) <= LARGEST).all(axis=(1, 2, 3))
    # Reads of no statement point past the end and are dropped.
    return everywhere(residuals.at[:, read_of].set(captured, mode="drop")), everywhere(usable)


def extract_residuals(
    params: Params,
    config: DecoderConfig,
    packed: Packed,
    *,
    dtype: DTypeLike,
    batch_slots: int | None = None,
    progress: str | None = None,
    layout: Layout | None = None,
    attention: AttentionBy = "xla",
) -> Float[Array, "L U D"]:
    """Extracts the residual after every block at the last token of every distinct statement, on the device.

    All batches have one shape, so that all checkpoints of a model share one compilation.

    Args:
        params: params on the device, or laid out by `layout`.
        dtype: dtype of the forward and of the result.
        batch_slots: slots of one forward for each share of the data axis; a default for the device if None.
        progress: label of a progress bar; none is shown if None.
        layout: the mesh to extract on; all its processes call this with the same arguments, and the result is whole on
            each of its devices.
        attention: see `Decoder`.

    Raises:
        InputError: a residual is NaN, infinite or too large for float32 statistics.
    """
    rows = _rows_at_once(packed, batch_slots, layout)
    decoder = Decoder(config, dtype, attention=attention)
    # Committed to the params' device, as the forward's result is; otherwise the second batch would compile again.
    home = params["embedding"].sharding if layout is None else layout.replicated
    residuals = jnp.zeros((config.depth, packed.count, config.width), dtype, device=home)
    usable: list[Array] = []
    statements_of = (packed.read_of < packed.count).sum(axis=1)

    with Bar(total=packed.count, desc=progress, unit=" statements") as bar:
        tokens_done = 0

        def wait_for(index: int) -> None:
            nonlocal tokens_done
            usable[index].block_until_ready()
            batch = slice(index * rows, (index + 1) * rows)
            tokens_done += int(packed.used[batch].sum())
            elapsed = bar.format_dict["elapsed"] or math.inf
            bar.set_postfix_str(f"{tokens_done / elapsed:,.0f} tokens/s", refresh=False)
            bar.update(int(statements_of[batch].sum()))

        batches = math.ceil(packed.rows / rows)
        for index in range(batches):
            batch = slice(index * rows, (index + 1) * rows)
            inputs = _inputs(packed, batch, rows, layout)
            residuals, ok = _forward(params, residuals, *inputs, decoder=decoder, layout=layout)
            usable.append(ok)
            # One batch stays queued while the device works on another.
            if index:
                wait_for(index - 1)
        wait_for(batches - 1)
        all_usable = np.asarray(jax.device_get(usable)).reshape(-1, config.depth).all(axis=0)
    if not all_usable.all():
        layer = int(np.flatnonzero(~all_usable)[0])
        raise InputError(
            f"the residual of layer {layer} is NaN, infinite or beyond {LARGEST:.0e} as {jnp.dtype(dtype).name}"
        )
    return residuals


def compiled_memory(
    config: DecoderConfig,
    packed: Packed,
    *,
    dtype: DTypeLike,
    batch_slots: int | None = None,
    layout: Layout | None = None,
) -> DeviceMemory:
    """Returns the memory of each device that `extract_residuals` will take, by compiling its forward."""

    flat = flatten_dict(abstract_params(config, dtype), sep="/")
    if layout is not None:
        flat = {path: leaf.update(sharding=layout.sharding(path, leaf.shape)) for path, leaf in flat.items()}
    rows, home = _rows_at_once(packed, batch_slots, layout), None if layout is None else layout.replicated
    compiled = _forward.lower(
        unflatten_dict(flat, sep="/"),
        jax.ShapeDtypeStruct((config.depth, packed.count, config.width), dtype, sharding=home),
        *_inputs(packed, slice(0, rows), rows, layout),
        decoder=Decoder(config, dtype),
        layout=layout,
    ).compile()
    planned = cast(Any, compiled.memory_analysis())
    return DeviceMemory(
        params=sum(map(_bytes_on_one, flat.values())),
        unread=sum(_bytes_on_one(leaf) for path, leaf in flat.items() if not path.startswith(("embedding", "blocks/"))),
        arguments=planned.argument_size_in_bytes,
        outputs=planned.output_size_in_bytes - planned.alias_size_in_bytes,
        temporaries=planned.temp_size_in_bytes,
    )


def _bytes_on_one(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize


def _rows_at_once(packed: Packed, batch_slots: int | None, layout: Layout | None) -> int:
    """Returns the rows of one forward, the same number on every share of the data axis."""
    shares = 1 if layout is None else layout.data
    per_share = math.ceil(packed.rows / shares)
    most = max(1, min(per_share, (batch_slots or default_batch_slots()) // packed.width))
    # The last batch is filled up with padding; of similar numbers of rows, the one that needs least is taken.
    return shares * min(range(most, most - most // 4 - 1, -1), key=lambda rows: -per_share % rows)


def _inputs(
    packed: Packed, batch: slice, rows: int, layout: Layout | None
) -> tuple[Slots, Int[Array | np.ndarray, "B R"], Int[Array | np.ndarray, "B R"]]:
    """Returns a batch's slots, its reads and the statements of the reads, on the device or split over the mesh."""
    reads = _filled(packed.reads[batch], 0, rows)
    read_of = _filled(packed.read_of[batch], packed.count, rows)  # padding rows read nothing
    slots, _ = padded_rows(packed, batch, rows)
    if layout is None:
        return slots, reads, read_of
    slots = Slots(*(layout.place(part, layout.rows) for part in slots))
    return slots, layout.place(reads, layout.rows), layout.place(read_of, layout.replicated)


def padded_rows(packed: Packed, batch: slice, rows: int) -> tuple[Slots, Int[Array, "B T"]]:
    """Returns one batch of rows and its slots' conditions, filled up to the common shape with rows of padding."""
    alone = np.arange(1, packed.width + 1)

    def filled(array: np.ndarray, value: int | np.ndarray = 0) -> Array:
        return jnp.asarray(_filled(array[batch], value, rows))

    slots = Slots(filled(packed.tokens), filled(packed.positions), filled(packed.ends, alone))
    return slots, filled(packed.conditions)


def _filled(part: np.ndarray, value: int | np.ndarray, rows: int) -> np.ndarray:
    short = rows - len(part)
    return np.concatenate([part, np.broadcast_to(value, (short, part.shape[1])).astype(np.int32)]) if short else part
