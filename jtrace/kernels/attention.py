"""Attention over packed prefix trees.

A slot j of a row sees slot i exactly when i ≤ j < end[i], `end[i]` being the first slot after i's subtree. Plain
causal rows, packing and prefix sharing are this one rule (`jtrace.data.packing` builds the slots).
Axes: B rows, T slots, N query heads, K key/value heads, H head_dim.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    visible: Bool[Array, "B T T"],
    *,
    precision: jax.lax.Precision = jax.lax.Precision.DEFAULT,
) -> Float[Array, "B T N H"]:
    """softmax(q kᵀ / √H) v over visible slots, N / K query heads to each key/value head; softmax in float32."""
    rows, slots, heads, head_dim = q.shape
    grouped = q.reshape(rows, slots, k.shape[2], heads // k.shape[2], head_dim)
    logits = jnp.einsum("btkgh,bskh->bkgts", grouped, k, precision=precision, preferred_element_type=jnp.float32)
    logits = jnp.where(visible[:, None, None], logits * head_dim**-0.5, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bkgts,bskh->btkgh", weights, v, precision=precision).reshape(q.shape)
