"""Extraction of residuals, and of other sites of the blocks, from params and packed statements.

Axes: L layers, U distinct statements, N statements of a set, D width, W width of a site.
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
from jtrace.inference.packing import Packed, cheapest_width, pack, under
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import AttentionBy, Decoder, Output, Params, Slots, abstract_params
from jtrace.models.reading import RESIDUAL, Read, width_of
from jtrace.models.sharding import Layout
from jtrace.runtime.progress import Bar

# Slots of a forward: enough to keep the matrix units busy, few enough to keep the attention weights small.
BATCH_SLOTS = {"cpu": 2304, "gpu": 16384, "tpu": 16384}
# Params that an extraction reads, by the beginnings of their paths.
READ = ("embedding", "position_embedding", "blocks/")
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
    tokens: Mapping[str, Sequence[np.ndarray]],
    config: DecoderConfig,
    width: int | None = None,
    counted: Mapping[str, Sequence[np.ndarray]] | None = None,
) -> PackedSets:
    """Packs every statement of every set into rows of one width; by default the cheapest for this decoder.

    Args:
        counted: for each statement, which of its tokens are its own, bool: these are packed under condition 1, and
            pooled reads are over them. None where nothing is pooled.

    Raises:
        InputError: a token that the model has no embedding for.
    """
    for name, rows in tokens.items():
        check_embedded(rows, config.vocab_size, name)
    sequences = [ids for rows in tokens.values() for ids in rows]
    if counted is not None:
        marks = [mark for rows in counted.values() for mark in rows]
        sequences = [under(ids, mark.astype(np.int64)) for ids, mark in zip(sequences, marks, strict=True)]
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


@partial(jax.jit, static_argnames=("decoder", "layout"), donate_argnames=("values",))
def _forward(
    params: Params,
    values: dict[Read, Float[Array, "L U W"]],
    slots: Slots,
    reads: Int[Array, "B R"],
    read_of: Int[Array, "B R"],
    counted: Bool[Array, "B T"] | None,
    *,
    decoder: Decoder,
    layout: Layout | None,
) -> tuple[dict[Read, Float[Array, "L U W"]], dict[Read, Bool[Array, " L"]]]:
    def everywhere(array: Array) -> Array:
        return array if layout is None else jax.lax.with_sharding_constraint(array, layout.replicated)

    # Whole on every device, so that any device can compute any layer's statistics, and any process can fetch them.
    output = cast(Output, decoder.apply({"params": params}, slots, reads, counted=counted))
    grown, usable = {}, {}
    for read, captured in output.reads.items():
        whole = everywhere(captured)
        usable[read] = everywhere((jnp.abs(whole) <= LARGEST).all(axis=(1, 2, 3)))
        # Reads of no statement point past the end and are dropped.
        grown[read] = everywhere(values[read].at[:, read_of].set(whole, mode="drop"))
    return grown, usable


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

    Args and errors are those of `extract`.
    """
    extracted = extract(
        params,
        config,
        packed,
        dtype=dtype,
        batch_slots=batch_slots,
        progress=progress,
        layout=layout,
        attention=attention,
    )
    return extracted[RESIDUAL]


def extract(
    params: Params,
    config: DecoderConfig,
    packed: Packed,
    reads: Sequence[Read] = (RESIDUAL,),
    *,
    dtype: DTypeLike,
    batch_slots: int | None = None,
    progress: str | None = None,
    layout: Layout | None = None,
    attention: AttentionBy = "xla",
) -> dict[Read, Float[Array, "L U W"]]:
    """Extracts what is to be read of every block, of every distinct statement, on the device.

    All batches have one shape, so that all checkpoints of a model share one compilation.

    Args:
        reads: what is read; of pooled ones, over the tokens that are packed under condition 1 (see `pack_sets`).
        params: params on the device, or laid out by `layout`.
        dtype: dtype of the forward and of the result.
        batch_slots: slots of one forward for each share of the data axis; a default for the device if None.
        progress: label of a progress bar; none is shown if None.
        layout: the mesh to extract on; all its processes call this with the same arguments, and the result is whole on
            each of its devices.
        attention: see `Decoder`.

    Raises:
        InputError: a value is NaN, infinite or too large for float32 statistics.
    """
    if any(read.pooling != "last" for read in reads) and not packed.conditions.any():
        raise ValueError("pooled reads need statements' own tokens, packed under condition 1")
    rows = _rows_at_once(packed, batch_slots, layout)
    decoder = Decoder(config, dtype, attention=attention, reads=tuple(dict.fromkeys(reads)))
    # Committed to the params' device, as the forward's result is; otherwise the second batch would compile again.
    home = params["embedding"].sharding if layout is None else layout.replicated
    values = {read: jnp.zeros(_shape(read, config, packed), dtype, device=home) for read in decoder.reads}
    usable: list[dict[Read, Array]] = []
    statements_of = (packed.read_of < packed.count).sum(axis=1)

    with Bar(total=packed.count, desc=progress, unit=" statements") as bar:
        tokens_done = 0

        def wait_for(index: int) -> None:
            nonlocal tokens_done
            jax.block_until_ready(usable[index])
            batch = slice(index * rows, (index + 1) * rows)
            tokens_done += int(packed.used[batch].sum())
            elapsed = bar.format_dict["elapsed"] or math.inf
            bar.set_postfix_str(f"{tokens_done / elapsed:,.0f} tokens/s", refresh=False)
            bar.update(int(statements_of[batch].sum()))

        batches = math.ceil(packed.rows / rows)
        for index in range(batches):
            batch = slice(index * rows, (index + 1) * rows)
            inputs = _inputs(packed, batch, rows, layout, decoder.reads)
            values, ok = _forward(params, values, *inputs, decoder=decoder, layout=layout)
            usable.append(ok)
            # One batch stays queued while the device works on another.
            if index:
                wait_for(index - 1)
        wait_for(batches - 1)
        _check_usable(jax.device_get(usable), jnp.dtype(dtype).name)
    return values


def _check_usable(usable: Sequence[dict[Read, np.ndarray]], dtype: str) -> None:
    for read in usable[0]:
        layers = np.stack([batch[read] for batch in usable]).all(axis=0)
        if not layers.all():
            layer = int(np.flatnonzero(~layers)[0])
            what = "residual" if read.site == "resid" else f"site '{read.site}'"
            raise InputError(f"the {what} of layer {layer} is NaN, infinite or beyond {LARGEST:.0e} as {dtype}")


def _shape(read: Read, config: DecoderConfig, packed: Packed) -> tuple[int, int, int]:
    return config.depth, packed.count, width_of(read.site, config)


def compiled_memory(
    config: DecoderConfig,
    packed: Packed,
    *,
    dtype: DTypeLike,
    reads: Sequence[Read] = (RESIDUAL,),
    batch_slots: int | None = None,
    layout: Layout | None = None,
) -> DeviceMemory:
    """Returns the memory of each device that `extract` will take, by compiling its forward."""
    flat = flatten_dict(abstract_params(config, dtype), sep="/")
    if layout is not None:
        flat = {path: leaf.update(sharding=layout.sharding(path, leaf.shape)) for path, leaf in flat.items()}
    rows, home = _rows_at_once(packed, batch_slots, layout), None if layout is None else layout.replicated
    compiled = _forward.lower(
        unflatten_dict(flat, sep="/"),
        {read: jax.ShapeDtypeStruct(_shape(read, config, packed), dtype, sharding=home) for read in reads},
        *_inputs(packed, slice(0, rows), rows, layout, reads),
        decoder=Decoder(config, dtype, reads=tuple(reads)),
        layout=layout,
    ).compile()
    planned = cast(Any, compiled.memory_analysis())
    return DeviceMemory(
        params=sum(map(_bytes_on_one, flat.values())),
        unread=sum(_bytes_on_one(leaf) for path, leaf in flat.items() if not path.startswith(READ)),
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
    packed: Packed, batch: slice, rows: int, layout: Layout | None, wanted: Sequence[Read]
) -> tuple[Slots, Int[Array | np.ndarray, "B R"], Int[Array | np.ndarray, "B R"], Bool[Array, "B T"] | None]:
    """Returns a batch's slots, its reads, the statements of the reads and, for pooled reads, statements' own slots.

    They are on the device, or split over the mesh.
    """
    reads = _filled(packed.reads[batch], 0, rows)
    read_of = _filled(packed.read_of[batch], packed.count, rows)  # padding rows read nothing
    slots, conditions = padded_rows(packed, batch, rows)
    counted = conditions > 0 if any(read.pooling != "last" for read in wanted) else None
    if layout is None:
        return slots, reads, read_of, counted
    slots = Slots(*(layout.place(part, layout.rows) for part in slots))
    counted = None if counted is None else layout.place(counted, layout.rows)
    return slots, layout.place(reads, layout.rows), layout.place(read_of, layout.replicated), counted


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
