"""Reads of a decoder: a site of every block, pooled over a statement's tokens.

Axes: B rows, T slots, R reads of a row, N query heads, H head_dim, W width of a site.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jtrace.models.config import DecoderConfig

Site = Literal[
    "resid",  # the residual after a block
    "attn",  # what a block's attention adds to the residual, after a norm behind it
    "mlp",  # what its MLP, or its experts, add
    "heads",  # what each head reads, before the output projection; heads side by side
]
SITES: tuple[Site, ...] = ("resid", "attn", "mlp", "heads")
Pooling = Literal[
    "last",  # the last token, whatever it is
    "mean",  # over the statement's own tokens: none that a tokeniser or a chat template adds
    "max",  # of each feature, over the same
]
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max")


class Read(NamedTuple):
    """One thing that is read of every block."""

    site: Site = "resid"
    pooling: Pooling = "last"


RESIDUAL = Read()


class ReadSlots(NamedTuple):
    """Places that are read in packed rows.

    Attributes:
        last: the slot of each read's last token; any valid slot for none.
        paths: the slots of each read's own tokens; None where only the last one is read.
    """

    last: Int[Array, "B R"]
    paths: Bool[Array, "B R T"] | None = None


def paths_of(last: Int[Array, "B R"], ends: Int[Array, "B T"], counted: Bool[Array, "B T"]) -> Bool[Array, "B R T"]:
    """Marks the slots on each read's path through the tree of its row that hold tokens of its own."""
    slot = jnp.arange(ends.shape[1])
    return (slot <= last[:, :, None]) & (last[:, :, None] < ends[:, None, :]) & counted[:, None, :]


def width_of(site: Site, config: DecoderConfig) -> int:
    """Returns the width of a site."""
    return config.heads * config.head_dim if site == "heads" else config.width


def pooled(values: Float[Array, "B T W"], slots: ReadSlots, pooling: Pooling) -> Float[Array, "B R W"]:
    """Pools a site's values over the slots of each read. Means are of float32, rounded once; an empty path gives 0."""
    if pooling == "last":
        return jnp.take_along_axis(values, slots.last[:, :, None], axis=1)
    assert slots.paths is not None
    if pooling == "mean":
        share = slots.paths / jnp.maximum(slots.paths.sum(axis=-1, keepdims=True), 1).astype(jnp.float32)
        highest = jax.lax.Precision.HIGHEST
        return jnp.einsum("brt,btw->brw", share, values.astype(jnp.float32), precision=highest).astype(values.dtype)
    highest_of = jnp.where(slots.paths[..., None], values[:, None], -jnp.inf).max(axis=2)
    return jnp.where(slots.paths.any(axis=-1, keepdims=True), highest_of, 0).astype(values.dtype)
