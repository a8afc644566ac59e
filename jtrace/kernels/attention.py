"""Attention over packed prefix trees.

A slot j of a row sees slot i exactly when i ≤ j < end[i], `end[i]` being the first slot after i's subtree. Plain
causal rows, packing and prefix sharing are this one rule (`jtrace.inference.packing` builds the slots).
Axes: B rows, T slots, N query heads, K key/value heads, H head_dim; in generation, a row is a prompt of S slots and its
C slots are conditions, each with G slots of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# How many tiles a long row is cut into (compile time grows with them), and the narrowest that pays.
TILES, NARROWEST_TILE = 4, 64


class Keys(NamedTuple):
    """Keys, rotated, and values of some slots."""

    k: Float[Array, "*T K H"]
    v: Float[Array, "*T K H"]


def visible_slots(
    ends: Int[Array, "B T"], positions: Int[Array, "B T"], window: int | None = None
) -> Bool[Array, "B T T"]:
    """Which slots [.., seen] each slot [.., seeing, ..] may attend to.

    Args:
        ends: first slot after each slot's subtree.
        positions: depth of each slot in its tree; a sliding window counts in these.
        window: how many positions back a slot sees, itself included; None for all of them.
    """
    slot = jnp.arange(ends.shape[-1])
    seeing, seen = slot[:, None], slot[None, :]
    visible = (seen <= seeing) & (seeing < ends[:, None, :])
    if window is not None:
        visible &= positions[:, :, None] - positions[:, None, :] < window
    return visible


def attend(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B seen K H"],
    v: Float[Array, "B seen K H"],
    visible: Bool[Array, "B T seen"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
) -> Float[Array, "B T N H"]:
    """softmax(q kᵀ / √H) v over visible slots, N / K query heads to each key/value head; softmax in float32."""
    rows, slots, heads, head_dim = q.shape
    grouped = q.reshape(rows, slots, k.shape[2], heads // k.shape[2], head_dim)
    logits = jnp.einsum("btkgh,bskh->bkgts", grouped, k, precision=precision, preferred_element_type=jnp.float32)
    logits = jnp.where(visible[:, None, None], logits * head_dim**-0.5, jnp.finfo(jnp.float32).min)
    # The softmax is the same whatever is taken off the logits, so the largest one needs no gradient.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    mixed = jnp.einsum(
        "bkgts,bskh->btkgh", weights.astype(v.dtype), v, precision=precision, preferred_element_type=jnp.float32
    )
    # Divided after mixing: one pass less over all weights.
    total = jnp.moveaxis(weights.sum(axis=-1), 3, 1)[..., None]
    return (mixed / total).astype(v.dtype).reshape(q.shape)


def attend_back(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    visible: Bool[Array, "B T T"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
) -> Float[Array, "B T N H"]:
    """As `attend`, where no slot sees a later one: each tile of queries meets the keys up to its own end alone."""
    slots = q.shape[1]
    tile = max(NARROWEST_TILE, -(-slots // TILES))
    found = []
    for start in range(0, slots, tile):
        stop = min(start + tile, slots)
        seen = visible[:, start:stop, :stop]
        found.append(attend(q[:, start:stop], k[:, :stop], v[:, :stop], seen, precision=precision))
    return jnp.concatenate(found, axis=1)


def visible_past(
    lengths: Int[Array, " B"], held: Int[Array, ""], sizes: tuple[int, int], window: int | None = None
) -> Bool[Array, "B seen"]:
    """Which slots of its prompt, and then of its own, S + G, the newest token of each row may attend to.

    Args:
        lengths: of the prompts.
        held: tokens of its own before the newest one, which every row has as many of.
        sizes: S and G, how many slots there are room for.
        window: how many positions back a slot sees, itself included; None for all of them.
    """
    prompt, own = (jnp.arange(size) for size in sizes)
    behind = jnp.concatenate(
        [
            jnp.where(prompt < lengths[:, None], lengths[:, None] + held - prompt, -1),
            jnp.broadcast_to(held - own, (len(lengths), sizes[1])),
        ],
        axis=1,
    )
    return (behind >= 0) & (behind < (window or sum(sizes) + 1))


def attend_to_past(
    q: Float[Array, "B C N H"],
    prompt: Keys,
    own: Keys,
    visible: Bool[Array, "B seen"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
) -> Float[Array, "B C N H"]:
    """As `attend`, for one new token per row and condition over the row's prompt and the condition's own tokens.

    The prompt's keys are read once for all conditions of a row, which share them.

    Args:
        prompt: [B, S, K, H] each.
        own: [B, C, G, K, H] each, the newest token's among them.
        visible: as `visible_past` says, for all conditions of a row alike.
    """
    rows, conditions, heads, head_dim = q.shape
    kv_heads, split = prompt.k.shape[-2], prompt.k.shape[1]
    grouped = q.reshape(rows, conditions, kv_heads, heads // kv_heads, head_dim)
    to_prompt = jnp.einsum("bckgh,bskh->bckgs", grouped, prompt.k, precision=precision,
                           preferred_element_type=jnp.float32)  # fmt: skip
    to_own = jnp.einsum("bckgh,bcukh->bckgu", grouped, own.k, precision=precision, preferred_element_type=jnp.float32)
    logits = jnp.concatenate([to_prompt, to_own], axis=-1) * head_dim**-0.5
    logits = jnp.where(visible[:, None, None, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
    mixed = jnp.einsum("bckgs,bskh->bckgh", weights[..., :split], prompt.v, precision=precision)
    mixed = mixed + jnp.einsum("bckgu,bcukh->bckgh", weights[..., split:], own.v, precision=precision)
    return mixed.reshape(q.shape)
