"""Rotary position embedding: frequencies, tables of cosines and sines, and the rotation itself, all in float32.

Axes: B rows, T slots, N heads, H head_dim; `half` is half of the dimensions that rotate.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jtrace.models.config import LinearScaling, Llama3Scaling, Rope, YarnScaling

Rotation = tuple[Float[Array, "*K B T 1 half"], Float[Array, "*K B T 1 half"]]


def rotary_frequencies(rope: Rope, dims: int) -> np.ndarray:
    """Returns the angular frequency of each rotary pair, float32 [dims / 2], in radians per position."""
    exponents = np.arange(0, dims, 2, dtype=np.float32) / np.float32(dims)
    frequencies = np.float32(1.0) / np.power(np.float64(rope.theta), exponents.astype(np.float64)).astype(np.float32)
    match rope.scaling:
        case None:
            return frequencies
        case LinearScaling(factor):
            return frequencies / np.float32(factor)
        case Llama3Scaling(factor, low, high, original):
            # Short wavelengths are kept, long ones stretched by `factor`, those between are blended.
            wavelengths = np.float32(2 * np.pi) * (1 / frequencies)
            turns = np.float32(original) * (1 / wavelengths)
            kept = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)
        case YarnScaling() as yarn:
            factor, kept = yarn.factor, _yarn_kept(yarn, rope.theta, dims)
    return (1 - kept) * frequencies / np.float32(factor) + kept * frequencies


def _yarn_kept(yarn: YarnScaling, theta: float, dims: int) -> np.ndarray:
    """Returns the share of each frequency that is not stretched: 1 for fast rotations, falling to 0, [dims / 2]."""

    def pair_that_turns(times: float) -> float:
        """Returns the (fractional) index of the pair that turns that many times over the original context."""
        return dims * math.log(yarn.original_context / (times * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(yarn.beta_fast), pair_that_turns(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    pairs = np.arange(dims // 2, dtype=np.float32)
    # A thousandth keeps the ramp finite where both ends meet.
    ramp = (pairs - np.float32(low)) / np.float32(high - low if high != low else 0.001)
    return 1 - np.clip(ramp, 0, 1).astype(np.float32)


def rotation_at(positions: Int[Array, "B T"], rope: Rope | None, dims: int) -> Rotation:
    """Computes tables of cosines and sines. A `rope` of None rotates nothing: a layer without positions."""
    frequencies = np.zeros(dims // 2, np.float32) if rope is None else rotary_frequencies(rope, dims)
    scale = rope.scaling.attention_factor if rope and isinstance(rope.scaling, YarnScaling) else 1.0
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return scale * jnp.cos(angles)[:, :, None, :], scale * jnp.sin(angles)[:, :, None, :]


def rotate(x: Float[Array, "B T N H"], rotation: Rotation) -> Float[Array, "B T N H"]:
    """Rotates the first `half` dimensions of each head against the next `half`; the rest stay as they are."""
    cos, sin = rotation
    half = cos.shape[-1]
    first, second, rest = jnp.split(x.astype(jnp.float32), (half, 2 * half), axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1).astype(x.dtype)
