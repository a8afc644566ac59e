"""The pieces of a decoder block, in flax.linen.

Axes: B rows, T slots, D width, N query heads, K key/value heads, H head_dim, F mlp width, V vocabulary.
Linear weights keep Hugging Face's [out, in] orientation, so that a tensor of a checkpoint file is one slab of a param.
Float32 models multiply at precision "highest" (no TF32, no bf16 passes); bfloat16 ones at the device's own pace.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.attention import attend
from jtrace.models.config import DecoderConfig, LinearScaling, Llama3Scaling, Rope

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


def precision_for(dtype: DTypeLike) -> jax.lax.Precision:
    """Matrix-product precision that keeps float32 honest on accelerators."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT


class Linear(nn.Module):
    """x Wᵀ (+ b), weight [out, in]."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"]) -> Float[Array, "B T O"]:
        weight = self.param("weight", nn.initializers.normal(0.02), (self.features, x.shape[-1]), x.dtype)
        y = jnp.einsum("bti,oi->bto", x, weight, precision=precision_for(x.dtype))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), x.dtype)
        return y


class RMSNorm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467) in float32; cast to x's dtype, then times the weight."""

    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        weight = self.param("weight", nn.initializers.ones, (x.shape[-1],), x.dtype)
        x32 = x.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return weight * normed.astype(x.dtype)


def rotary_frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Angular frequency of each rotary pair, float32 [head_dim / 2], radians per position."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1.0) / np.power(np.float64(rope.theta), exponents.astype(np.float64)).astype(np.float32)
    match rope.scaling:
        case None:
            return frequencies
        case LinearScaling(factor):
            return frequencies / np.float32(factor)
        case Llama3Scaling(factor, low, high, original):
            # Short wavelengths stay, long ones stretch by `factor`, those between are blended.
            wavelengths = np.float32(2 * np.pi) * (1 / frequencies)
            turns = np.float32(original) * (1 / wavelengths)
            blend = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)
            return (1 - blend) * frequencies / np.float32(factor) + blend * frequencies


Rotation = tuple[Float[Array, "B T 1 half"], Float[Array, "B T 1 half"]]


def rotation_at(positions: Int[Array, "B T"], rope: Rope, head_dim: int) -> Rotation:
    """Cosine and sine tables in float32, computed once for all layers."""
    angles = positions[..., None].astype(jnp.float32) * rotary_frequencies(rope, head_dim)
    return jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]


def rotate(x: Float[Array, "B T N H"], rotation: Rotation) -> Float[Array, "B T N H"]:
    """Rotate the first half of each head against the second, in float32."""
    cos, sin = rotation
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Attention(nn.Module):
    """Multi-head, grouped or multi-query self-attention over the slots that `visible` allows."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], rotation: Rotation, visible: Bool[Array, "B T T"]
    ) -> Float[Array, "B T D"]:
        c = self.config
        rows, slots, _ = x.shape
        q = Linear(c.heads * c.head_dim, c.qkv_bias, name="q")(x).reshape(rows, slots, c.heads, c.head_dim)
        k = Linear(c.kv_heads * c.head_dim, c.qkv_bias, name="k")(x).reshape(rows, slots, c.kv_heads, c.head_dim)
        v = Linear(c.kv_heads * c.head_dim, c.qkv_bias, name="v")(x).reshape(rows, slots, c.kv_heads, c.head_dim)
        mixed = attend(rotate(q, rotation), rotate(k, rotation), v, visible, precision=precision_for(x.dtype))
        return Linear(c.width, c.out_bias, name="o")(mixed.reshape(rows, slots, c.heads * c.head_dim))


class GatedMLP(nn.Module):
    """down(act(gate(x)) · up(x))  (arXiv 2002.05202)."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        c = self.config
        gate = ACTIVATIONS[c.activation](Linear(c.mlp_width, c.mlp_bias, name="gate")(x))
        return Linear(c.width, c.mlp_bias, name="down")(gate * Linear(c.mlp_width, c.mlp_bias, name="up")(x))
