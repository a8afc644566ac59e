"""Llama (arXiv 2302.13971): Amber, AmberChat, TinyLlama, SmolLM2, Llama 3; and parts that other families share."""

import dataclasses
from collections.abc import Mapping, Sequence

from jtrace.models.config import Activation, DecoderConfig, LayerKind, Rope
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Family
from jtrace.models.families.layer_config import read_rope

NAMES = {
    "embedding": "model.embed_tokens.weight",
    "blocks/attention_norm/weight": "model.layers.{}.input_layernorm.weight",
    "blocks/attention/q/weight": "model.layers.{}.self_attn.q_proj.weight",
    "blocks/attention/q/bias": "model.layers.{}.self_attn.q_proj.bias",
    "blocks/attention/k/weight": "model.layers.{}.self_attn.k_proj.weight",
    "blocks/attention/k/bias": "model.layers.{}.self_attn.k_proj.bias",
    "blocks/attention/v/weight": "model.layers.{}.self_attn.v_proj.weight",
    "blocks/attention/v/bias": "model.layers.{}.self_attn.v_proj.bias",
    "blocks/attention/o/weight": "model.layers.{}.self_attn.o_proj.weight",
    "blocks/attention/o/bias": "model.layers.{}.self_attn.o_proj.bias",
    "blocks/attention/q_norm/weight": "model.layers.{}.self_attn.q_norm.weight",
    "blocks/attention/k_norm/weight": "model.layers.{}.self_attn.k_norm.weight",
    "blocks/mlp_norm/weight": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp/gate/weight": "model.layers.{}.mlp.gate_proj.weight",
    "blocks/mlp/gate/bias": "model.layers.{}.mlp.gate_proj.bias",
    "blocks/mlp/up/weight": "model.layers.{}.mlp.up_proj.weight",
    "blocks/mlp/up/bias": "model.layers.{}.mlp.up_proj.bias",
    "blocks/mlp/down/weight": "model.layers.{}.mlp.down_proj.weight",
    "blocks/mlp/down/bias": "model.layers.{}.mlp.down_proj.bias",
    "final_norm/weight": "model.norm.weight",
    "head": "lm_head.weight",
}


def layer_kinds(fields: Fields, windows: Sequence[int | None] | None = None) -> tuple[LayerKind, ...]:
    """Returns layers of one rotary embedding and the given windows; None means no windows."""
    rope = read_rope(fields)
    return tuple(LayerKind(rope, window) for window in windows or [None] * fields.size("num_hidden_layers"))


def uniform_layers(
    rope: Rope, fields: Fields, window: int | None = None, scale: float | None = None
) -> tuple[LayerKind, ...]:
    """Returns layers that are all alike."""
    return (LayerKind(rope, window, scale),) * fields.size("num_hidden_layers")


def head_dim_of(fields: Fields) -> int:
    """Reads the size of a head; where it is absent, heads share the width."""
    heads, width = fields.size("num_attention_heads"), fields.size("hidden_size")
    return fields.size("head_dim", max(width // heads, 1))


def common_config(
    fields: Fields,
    layers: tuple[LayerKind, ...],
    *,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    norm_eps: float | None = None,
    rms_norm_eps: float = 1e-6,
    activations: Mapping[str, Activation] = ACTIVATION_NAMES,
    activation: str = "silu",
    tied_head: bool = False,
) -> DecoderConfig:
    """Reads the fields that all families with Llama's weight names share.

    Args:
        kv_heads, head_dim, rms_norm_eps, activation, tied_head: values of absent fields; None means the number of
            heads, and width / heads.
        norm_eps: the family's own; None reads `rms_norm_eps`.
        activations: the names that `hidden_act` may have.
    """
    heads, width = fields.size("num_attention_heads"), fields.size("hidden_size")
    kv_heads = fields.size("num_key_value_heads", heads if fields.is_null("num_key_value_heads") else kv_heads or heads)
    head_dim = fields.size("head_dim", head_dim or max(width // heads, 1))
    if heads % kv_heads:
        raise fields.refuse(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    if head_dim % 2:
        raise fields.refuse(f"head_dim {head_dim} is odd; rotary embedding needs an even one")
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=fields.size("intermediate_size"),
        context=fields.size("max_position_embeddings"),
        layers=layers,
        norm_eps=fields.number("rms_norm_eps", rms_norm_eps) if norm_eps is None else norm_eps,
        activation=fields.choice("hidden_act", activations, activation),
        tied_head=fields.flag("tie_word_embeddings", tied_head),
    )


def with_biases(config: DecoderConfig, fields: Fields) -> DecoderConfig:
    """Adds `attention_bias`, which is for all four projections."""
    bias = fields.flag("attention_bias", False)
    return dataclasses.replace(config, qkv_bias=bias, out_bias=bias)


def read_config(fields: Fields) -> DecoderConfig:
    config = common_config(fields, layer_kinds(fields))
    return dataclasses.replace(with_biases(config, fields), mlp_bias=fields.flag("mlp_bias", False))


FAMILY = Family(read_config, NAMES)
