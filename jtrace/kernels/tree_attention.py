"""Attention over packed prefix trees as one kernel for GPUs: no weights in memory, no work on invisible tiles.

It follows the rule of `jtrace.kernels.attention`, forward only. A row is cut into tiles of slots. Each program takes
one tile of queries of one head through the tiles of keys that any of its slots can see, with a running softmax
(Milakov and Gimelshein, arXiv 1805.02867; as attention, Dao et al., arXiv 2205.14135, algorithm 1).
Axes: B rows, T slots, N query heads, K key/value heads, H head_dim, E dimensions of a key, G tiles of a row.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from jtrace.kernels.attention import capped

# Slots per tile: queries, keys, values and sums of 64 slots and 128 dimensions fit a multiprocessor's registers.
TILE = 64
# Triton multiplies matrices whose sizes are powers of two, at least this wide.
_NARROWEST = 16
_LOWEST = float(jnp.finfo(jnp.float32).min)


def seen_tiles(
    ends: Int[Array, "B T"], positions: Int[Array, "B T"], window: Int[Array, ""] | int
) -> tuple[Int[Array, "B G G"], Int[Array, "B G"]]:
    """Lists, for each tile of queries [.., G, ..], the tiles of keys that any of its slots can see, and counts them.

    Each list is in order; after the seen tiles follow all others. T is a multiple of the tile.
    """
    by_tile = (ends.shape[0], -1, TILE)
    ends, positions = ends.reshape(by_tile), positions.reshape(by_tile)
    tile = jnp.arange(ends.shape[1])
    seen = ends.max(axis=-1)[:, None, :] > TILE * tile[:, None]
    seen &= positions.min(axis=-1)[:, :, None] - positions.max(axis=-1)[:, None, :] < window
    seen &= tile[None, :] <= tile[:, None]
    return jnp.argsort(~seen, axis=-1, stable=True).astype(jnp.int32), seen.sum(axis=-1, dtype=jnp.int32)


@partial(jax.jit, static_argnames=("interpret", "cap"))
def tree_attend(
    q: Float[Array, "B T N E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K H"],
    ends: Int[Array, "B T"],
    positions: Int[Array, "B T"],
    window: Int[Array, ""] | int | None = None,
    interpret: bool = False,
    cap: float | None = None,
) -> Float[Array, "B T N H"]:
    """Computes `attend` over `visible_slots(ends, positions, window)`, without a gradient, on one device.

    Float32 is multiplied as float32, bfloat16 at the device's default; sums and softmax are float32.

    Args:
        ends: first slot after each slot's subtree.
        positions: depth of each slot in its tree; a sliding window counts these.
        window: number of positions that a slot sees, itself included; None for all of them.
        interpret: run without a GPU, slowly.
        cap: a soft bound on the softmax's input; see `capped`.
    """
    _, slots, heads, key_dim = q.shape
    head_dim = v.shape[-1]
    window = jnp.asarray(slots if window is None else window, jnp.int32)
    width = pl.next_power_of_2(max(key_dim, _NARROWEST))
    missing = -slots % TILE
    q, k, v = (jnp.pad(part, ((0, 0), (0, missing), (0, 0), (0, width - part.shape[-1]))) for part in (q, k, v))
    # Padding slots see only themselves.
    alone = jnp.broadcast_to(jnp.arange(slots, slots + missing, dtype=ends.dtype) + 1, (len(ends), missing))
    ends, positions = jnp.concatenate([ends, alone], axis=1), jnp.pad(positions, ((0, 0), (0, missing)))
    tiles, counts = seen_tiles(ends, positions, window)

    def of_row(*shape: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, *shape), lambda row, head, tile: (row, *(0 for _ in shape)))

    group = heads // k.shape[2]
    queries = pl.BlockSpec((None, TILE, None, width), lambda row, head, tile: (row, tile, head, 0))
    keys = pl.BlockSpec((None, q.shape[1], None, width), lambda row, head, tile: (row, 0, head // group, 0))
    mixed = pl.pallas_call(
        partial(_attend_from_tile, scale=key_dim**-0.5, cap=cap),
        grid=(len(q), heads, counts.shape[1]),
        in_specs=[
            pl.BlockSpec((None, None, counts.shape[1]), lambda row, head, tile: (row, tile, 0)),
            of_row(counts.shape[1]),
            pl.BlockSpec((1,), lambda row, head, tile: (0,)),
            of_row(q.shape[1]),
            of_row(q.shape[1]),
            queries,
            keys,
            keys,
        ],
        out_specs=queries,
        out_shape=jax.ShapeDtypeStruct(q.shape, q.dtype),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="tree_attend",
    )(tiles, counts, window[None], ends, positions, q, k, v)
    return mixed[:, :slots, :, :head_dim]


def _attend_from_tile(
    tiles: Any,
    counts: Any,
    window: Any,
    ends: Any,
    positions: Any,
    q: Any,
    k: Any,
    v: Any,
    out: Any,
    *,
    scale: float,
    cap: float | None,
) -> None:
    """Runs one program: `q` and `out` are a tile [TILE, H] of one head, the other references are whole rows."""
    here = pl.program_id(2)
    seeing, asking = here * TILE + jnp.arange(TILE), q[...]
    depth, back = positions[pl.ds(here * TILE, TILE)], window[0]
    dot = partial(
        jnp.dot,
        precision=jax.lax.Precision.HIGHEST if asking.dtype == jnp.float32 else jax.lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )

    def add(at: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mixed, total, largest = sums
        tile = tiles[at]
        part = pl.ds(tile * TILE, TILE)
        seen = tile * TILE + jnp.arange(TILE)
        visible = (seen[None, :] <= seeing[:, None]) & (seeing[:, None] < ends[part][None, :])
        visible &= depth[:, None] - positions[part][None, :] < back
        logits = jnp.where(visible, capped(dot(asking, k[part, :].T) * scale, cap), _LOWEST)
        grown = jnp.maximum(largest, logits.max(axis=1))
        # A slot that has seen nothing yet has meaningless weights here; `kept` becomes 0 with the first slot it sees.
        kept, weights = jnp.exp(largest - grown), jnp.exp(logits - grown[:, None])
        values = v[part, :]
        mixed = mixed * kept[:, None] + dot(weights.astype(values.dtype), values)
        return mixed, total * kept + weights.sum(axis=1), grown

    nothing = jnp.zeros(asking.shape, jnp.float32), jnp.zeros(TILE, jnp.float32), jnp.full(TILE, _LOWEST, jnp.float32)
    mixed, total, _ = jax.lax.fori_loop(0, counts[here], add, nothing)
    out[...] = (mixed / total[:, None]).astype(out.dtype)
