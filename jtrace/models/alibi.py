"""ALiBi (arXiv 2108.12409): a head's attention falls off linearly with distance, by a slope of its own.

The softmax does not change where all logits of a query do, so slope · (position of the key) says the same as
−slope · distance. A key therefore holds its position as two more dimensions, and a query its slope: every way of
attending, and every store of keys, serves ALiBi as it is.
Axes: B rows, T slots, N query heads, K key/value heads, H head_dim, E = H + 2.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Positions are kept as a multiple of this and a rest: bfloat16 holds both exactly, and not every position.
COARSE = 256


def slopes(heads: int) -> np.ndarray:
    """Returns each head's slope, float32 [heads]: powers of one base; beyond a power of two, those between them."""
    whole = 1 << (heads.bit_length() - 1)

    def powers(count: int) -> np.ndarray:
        return 2.0 ** (-8.0 / count * np.arange(1, count + 1))

    return np.concatenate([powers(whole), powers(2 * whole)[::2][: heads - whole]]).astype(np.float32)


def with_slopes(q: Float[Array, "B T N H"]) -> Float[Array, "B T N E"]:
    """Adds each head's slope to queries, in the units of products that are scaled by (H + 2) ** −½."""
    *axes, heads, head_dim = q.shape
    stretched = (q.astype(jnp.float32) * math.sqrt((head_dim + 2) / head_dim)).astype(q.dtype)
    slope = jnp.asarray(slopes(heads) * math.sqrt(head_dim + 2), q.dtype)
    return jnp.concatenate([stretched, jnp.broadcast_to(slope[:, None], (*axes, heads, 2))], axis=-1)


def with_positions(k: Float[Array, "B T K H"], positions: Int[Array, "B T"]) -> Float[Array, "B T K E"]:
    """Adds positions to keys."""
    rest = positions % COARSE
    place = jnp.stack([positions - rest, rest], axis=-1).astype(k.dtype)[:, :, None]
    return jnp.concatenate([k, jnp.broadcast_to(place, (*k.shape[:-1], 2))], axis=-1)
