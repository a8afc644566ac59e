"""Llama (arXiv 2302.13971) and what shares its weights' names: Amber, AmberChat, TinyLlama, SmolLM2, Llama 3."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families.family import ACTIVATION_NAMES, Family
from jtrace.models.families.fields import Fields

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


def common_config(fields: Fields, default_kv_heads: int | None) -> DecoderConfig:
    """What Llama and Mistral configs say in the same words."""
    heads, width, context = (
        fields.size("num_attention_heads"),
        fields.size("hidden_size"),
        fields.size("max_position_embeddings"),
    )
    kv_heads = fields.size("num_key_value_heads", default_kv_heads or heads)
    head_dim = fields.size("head_dim", max(width // heads, 1))
    if heads % kv_heads:
        raise fields.refuse(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    if head_dim % 2:
        raise fields.refuse(f"head_dim {head_dim} is odd; rotary embedding needs an even one")
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        depth=fields.size("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=fields.size("intermediate_size"),
        context=context,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope=fields.rope(context),
        activation=fields.choice("hidden_act", ACTIVATION_NAMES, "silu"),
        tied_head=fields.flag("tie_word_embeddings", False),
    )


def read_config(fields: Fields) -> DecoderConfig:
    attention_bias = fields.flag("attention_bias", False)
    return dataclasses.replace(
        common_config(fields, default_kv_heads=None),
        qkv_bias=attention_bias,
        out_bias=attention_bias,
        mlp_bias=fields.flag("mlp_bias", False),
    )


FAMILY = Family(read_config, NAMES)
