"""A mixture of experts in place of a block's MLP.

Axes: B rows, T slots, D width, E experts, F width of an expert's MLP, M tokens, C chosen experts of a token.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jtrace.kernels.experts import ExpertWeights, apply_experts
from jtrace.models.config import DecoderConfig, Experts
from jtrace.models.layers import ACTIVATIONS, BY_FAN_IN, precision_for

# `BY_FAN_IN` for every expert.
OF_EACH = nn.initializers.variance_scaling(1.0, "fan_in", "normal", in_axis=-1, out_axis=-2, batch_axis=0)


def route(logits: Float[Array, "M E"], experts: Experts) -> tuple[Float[Array, "M C"], Int[Array, "M C"]]:
    """Returns each token's likeliest experts and their weights, in float32: the softmax over all experts, then the top.

    Of equally likely experts the first are taken.
    """
    weights, chosen = jax.lax.top_k(jax.nn.softmax(logits.astype(jnp.float32), axis=-1), experts.chosen)
    return weights / weights.sum(axis=-1, keepdims=True) if experts.renormalised else weights, chosen


class MixtureOfExperts(nn.Module):
    """The weighted sum of each token's likeliest experts, gated MLPs without biases."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        c, experts = self.config, self.config.experts
        assert experts is not None
        router = self.param("router", BY_FAN_IN, (experts.count, c.width), x.dtype)
        inwards, outwards = (experts.count, c.mlp_width, c.width), (experts.count, c.width, c.mlp_width)
        shapes = {"gate": inwards, "up": inwards, "down": outwards}
        weights = ExpertWeights(**{name: self.param(name, OF_EACH, shape, x.dtype) for name, shape in shapes.items()})
        flat, precision = x.reshape(-1, c.width), precision_for(x.dtype)
        share, chosen = route(jnp.einsum("md,ed->me", flat, router, precision=precision), experts)
        out = apply_experts(flat, chosen, weights, ACTIVATIONS[c.activation], precision)
        # Summed as float32 and rounded once, whatever the order of a token's experts.
        summed = jnp.einsum("mcd,mc->md", out.astype(jnp.float32), share, precision=jax.lax.Precision.HIGHEST)
        return summed.astype(x.dtype).reshape(x.shape)
