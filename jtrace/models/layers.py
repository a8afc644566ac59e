"""The pieces of a decoder block, in flax.linen.

Axes: B rows, T slots, D width, N query heads, K key/value heads, H head_dim, F mlp width, V vocabulary.
Linear weights keep Hugging Face's [out, in] orientation, so that a tensor of a checkpoint file is one slab of a param.
Float32 models multiply at precision "highest" (no TF32, no bf16 passes); bfloat16 models at the device's default.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jtrace.kernels.attention import Keys
from jtrace.models.alibi import with_positions, with_slopes
from jtrace.models.config import DecoderConfig, NormKind
from jtrace.models.rotary import Rotation, rotate

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


def xielu(x: Array, alpha_p: Array, alpha_n: Array, beta: Array, eps: Array) -> Array:
    """Computes xIELU (arXiv 2411.13010): a parabola above 0, an exponential below, with two learnt curvatures."""
    curved = jnp.where(
        x > 0,
        jax.nn.softplus(alpha_p) * x * x,
        (beta + jax.nn.softplus(alpha_n)) * (jnp.expm1(jnp.minimum(x, eps)) - x),
    )
    return curved + beta * x


# Initial values of xIELU's params: both curvatures are 0.8.
XIELU = {"alpha_p": math.log(math.expm1(0.8)), "alpha_n": math.log(math.expm1(0.3)), "beta": 0.5, "eps": -1e-6}


def precision_for(dtype: DTypeLike) -> jax.lax.Precision:
    """Returns the precision of matrix products: "highest" for float32, which accelerators would otherwise shorten."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT


# Normal with deviation 1/√fan-in: outputs are as large as inputs at any width. Weights are [out, in].
BY_FAN_IN = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2)


class Linear(nn.Module):
    """Linear map x Wᵀ (+ b), weight [out, in]."""

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T I"]) -> Float[Array, "B T O"]:
        weight = self.param("weight", BY_FAN_IN, (self.features, x.shape[-1]), x.dtype)
        y = jnp.einsum("bti,oi->bto", x, weight, precision=precision_for(x.dtype))
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), x.dtype)
        return y


class Norm(nn.Module):
    """Root-mean-square norm (arXiv 1910.07467) or layer norm (arXiv 1607.06450) over the last axis, in float32."""

    kind: NormKind
    eps: float

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        x32 = x.astype(jnp.float32)
        if self.kind in ("layer", "layer_bare"):
            x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        normed = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        if self.kind == "layer_bare":
            return normed.astype(x.dtype)
        initial = nn.initializers.zeros if self.kind == "rms_plus_one" else nn.initializers.ones
        weight = self.param("weight", initial, (x.shape[-1],), x.dtype)
        if self.kind == "rms":
            return weight * normed.astype(x.dtype)
        gain = weight.astype(jnp.float32)
        normed = (1 + gain if self.kind == "rms_plus_one" else gain) * normed
        if self.kind == "layer":
            normed = normed + self.param("bias", nn.initializers.zeros, (x.shape[-1],), x.dtype).astype(jnp.float32)
        return normed.astype(x.dtype)


# Rotated queries [B T N H], rotated keys and values [B T K H] → what the heads read [B T N H], and what to remember.
Mix = Callable[[Array, Keys], tuple[Array, Any]]


class Attention(nn.Module):
    """Multi-head, grouped or multi-query self-attention; `mix` decides which slots are attended to."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T D"],
        rotation: Rotation,
        scale: Float[Array, ""] | None,
        positions: Int[Array, "B T"],
        mix: Mix,
        change: Callable[[Array], Array],
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B T NH"], Any]:
        """Computes the branch, what each head read, and what `mix` gives to remember.

        Args:
            scale: factor of queries, beside head_dim ** −½; None for 1.
            change: an edit of what the heads read, [B T N·H].
        """
        c = self.config
        rows, slots, _ = x.shape
        q = Linear(c.heads * c.head_dim, c.qkv_bias, name="q")(x)
        k = Linear(c.kv_heads * c.head_dim, c.qkv_bias, name="k")(x)
        v = Linear(c.kv_heads * c.head_dim, c.qkv_bias, name="v")(x)
        q_norm, k_norm = (Norm(c.norm, c.norm_eps, name=name) for name in ("q_norm", "k_norm"))
        if c.qk_norm == "width":
            q, k = q_norm(q), k_norm(k)
        if c.clip_qkv is not None:
            q, k, v = (jnp.clip(part, -c.clip_qkv, c.clip_qkv) for part in (q, k, v))
        q, k, v = (part.reshape(rows, slots, -1, c.head_dim) for part in (q, k, v))
        if c.qk_norm == "head":
            q, k = q_norm(q), k_norm(k)
        q, k = rotate(q, rotation), rotate(k, rotation)
        if scale is not None:
            q = (q.astype(jnp.float32) * scale).astype(q.dtype)
        if c.alibi:
            q, k = with_slopes(q), with_positions(k, positions)
        mixed, remembered = mix(q, Keys(k, v))
        heads = change(mixed.reshape(rows, slots, c.heads * c.head_dim))
        return Linear(c.width, c.out_bias, name="o")(heads), heads, remembered


class MLP(nn.Module):
    """The MLP of a block: down(act(gate(x)) · up(x)) (arXiv 2002.05202), or down(act(up(x))) without a gate."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        c = self.config
        act = self._xielu(x.dtype) if c.activation == "xielu" else ACTIVATIONS[c.activation]
        up = Linear(c.mlp_width, c.mlp_bias, name="up")(x)
        inner = act(Linear(c.mlp_width, c.mlp_bias, name="gate")(x)) * up if c.gated_mlp else act(up)
        return Linear(c.width, c.mlp_bias, name="down")(inner)

    def _xielu(self, dtype: DTypeLike) -> Callable[[Array], Array]:
        def param(name: str) -> Array:
            shape = (1,) if name.startswith("alpha") else ()  # as files hold them
            value = self.param(name, nn.initializers.constant(XIELU[name]), shape, dtype)
            return value if name.startswith("alpha") else jax.lax.stop_gradient(value)  # constants in files

        return partial(xielu, **{name: param(name) for name in XIELU})
