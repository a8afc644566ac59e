"""Attention over packed prefix trees.

A slot j of a row sees slot i exactly when i ≤ j < end[i], where `end[i]` is the first slot after i's subtree. Plain
causal rows, packing and prefix sharing are this one rule (`jtrace.inference.packing` builds the slots).
Axes: B rows, T slots, N query heads, K key/value heads, H head_dim, E dimensions of a key (H, or more where keys say
their positions too: `jtrace.models.alibi`); in generation, a row is a prompt of S slots, and
its C slots are conditions that generate up to G tokens each.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Number of tiles of a long row (compile time grows with it), and the narrowest tile that pays.
TILES, NARROWEST_TILE = 4, 64


class Keys(NamedTuple):
    """Rotated keys, and values, of some slots."""

    k: Float[Array, "*T K E"]
    v: Float[Array, "*T K H"]


def visible_slots(
    ends: Int[Array, "B T"], positions: Int[Array, "B T"], window: int | None = None
) -> Bool[Array, "B T T"]:
    """Returns the slots [.., seen] that each slot [.., seeing, ..] may attend to.

    Args:
        ends: first slot after each slot's subtree.
        positions: depth of each slot in its tree; a sliding window counts these.
        window: number of positions that a slot sees, itself included; None for all of them.
    """
    slot = jnp.arange(ends.shape[-1])
    seeing, seen = slot[:, None], slot[None, :]
    visible = (seen <= seeing) & (seeing < ends[:, None, :])
    if window is not None:
        visible &= positions[:, :, None] - positions[:, None, :] < window
    return visible


def capped(x: Array, cap: float | None) -> Array:
    """Bounds numbers softly, cap · tanh(x / cap); leaves them as they are without a cap."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def attend(
    q: Float[Array, "B T N E"],
    k: Float[Array, "B seen K E"],
    v: Float[Array, "B seen K H"],
    visible: Bool[Array, "B T seen"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
    cap: float | None = None,
) -> Float[Array, "B T N H"]:
    """Computes softmax(q kᵀ / √E) v over visible slots, N / K query heads to a key/value head; softmax in float32.

    Args:
        cap: a soft bound on the softmax's input; see `capped`.
    """
    rows, slots, heads, key_dim = q.shape
    grouped = q.reshape(rows, slots, k.shape[2], heads // k.shape[2], key_dim)
    logits = jnp.einsum("btkgh,bskh->bkgts", grouped, k, precision=precision, preferred_element_type=jnp.float32)
    logits = jnp.where(visible[:, None, None], capped(logits * key_dim**-0.5, cap), jnp.finfo(jnp.float32).min)
    # Subtracting any number from the logits leaves the softmax as it is, so the largest one needs no gradient.
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    mixed = jnp.einsum(
        "bkgts,bskh->btkgh", weights.astype(v.dtype), v, precision=precision, preferred_element_type=jnp.float32
    )
    # Dividing after mixing saves a pass over all weights.
    total = jnp.moveaxis(weights.sum(axis=-1), 3, 1)[..., None]
    return (mixed / total).astype(v.dtype).reshape(rows, slots, heads, -1)


def attend_back(
    q: Float[Array, "B T N E"],
    k: Float[Array, "B T K E"],
    v: Float[Array, "B T K H"],
    visible: Bool[Array, "B T T"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
    cap: float | None = None,
) -> Float[Array, "B T N H"]:
    """Computes `attend` where no slot sees a later one: each tile of queries meets only the keys up to its end."""
    slots = q.shape[1]
    tile = max(NARROWEST_TILE, -(-slots // TILES))
    tiles = []
    for start in range(0, slots, tile):
        stop = min(start + tile, slots)
        seen = visible[:, start:stop, :stop]
        tiles.append(attend(q[:, start:stop], k[:, :stop], v[:, :stop], seen, precision=precision, cap=cap))
    return jnp.concatenate(tiles, axis=1)


def visible_past(
    lengths: Int[Array, " B"], held: Int[Array, ""], sizes: tuple[int, int], window: int | None = None
) -> Bool[Array, "B seen"]:
    """Returns the slots, S of the prompt and then G generated ones, that each row's newest token may attend to.

    Args:
        lengths: tokens of each prompt.
        held: number of generated tokens before the newest one, the same for every row.
        sizes: S and G, the slots that there is room for.
        window: number of positions that a slot sees, itself included; None for all of them.
    """
    prompt, generated = (jnp.arange(size) for size in sizes)
    behind = jnp.concatenate(
        [
            jnp.where(prompt < lengths[:, None], lengths[:, None] + held - prompt, -1),
            jnp.broadcast_to(held - generated, (len(lengths), sizes[1])),
        ],
        axis=1,
    )
    return (behind >= 0) & (behind < (window or sum(sizes) + 1))


def visible_kept(held: Int[Array, ""], sizes: tuple[int, int, int], window: int | None = None) -> Bool[Array, "B T S"]:
    """Returns the kept slots [.., seen] that each of a row's newest tokens [.., seeing, ..] may attend to.

    Args:
        held: number of kept tokens before the newest ones, the same for every row.
        sizes: B, T and S: rows, newest tokens, and slots that there is room for.
        window: number of positions that a slot sees, itself included; None for all of them.
    """
    _, newest, room = sizes
    behind = held + jnp.arange(newest)[:, None] - jnp.arange(room)
    return jnp.broadcast_to((behind >= 0) & (behind < (window or newest + room)), sizes)


def attend_to_past(
    q: Float[Array, "B C N E"],
    prompt: Keys,
    generated: Keys,
    visible: Bool[Array, "B seen"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
    cap: float | None = None,
) -> Float[Array, "B C N H"]:
    """Computes `attend` for one new token of each row and condition, over the prompt and the generated tokens.

    The prompt's keys are read once for all conditions of a row, which share them.

    Args:
        prompt: keys and values of prompts, each [B, S, K, E or H].
        generated: keys and values of each condition's tokens, the newest included, each [B, C, G, K, E or H].
        visible: the result of `visible_past`, the same for all conditions of a row.
        cap: as in `attend`.
    """
    rows, conditions, heads, key_dim = q.shape
    kv_heads, split = prompt.k.shape[-2], prompt.k.shape[1]
    grouped = q.reshape(rows, conditions, kv_heads, heads // kv_heads, key_dim)
    to_prompt = jnp.einsum("bckgh,bskh->bckgs", grouped, prompt.k, precision=precision,
                           preferred_element_type=jnp.float32)  # fmt: skip
    to_generated = jnp.einsum("bckgh,bcukh->bckgu", grouped, generated.k, precision=precision,
                              preferred_element_type=jnp.float32)  # fmt: skip
    logits = capped(jnp.concatenate([to_prompt, to_generated], axis=-1) * key_dim**-0.5, cap)
    logits = jnp.where(visible[:, None, None, None], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(q.dtype)
    mixed = jnp.einsum("bckgs,bskh->bckgh", weights[..., :split], prompt.v, precision=precision)
    mixed = mixed + jnp.einsum("bckgu,bcukh->bckgh", weights[..., split:], generated.v, precision=precision)
    return mixed.reshape(rows, conditions, heads, -1)
