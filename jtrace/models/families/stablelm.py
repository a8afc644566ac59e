"""StableLM: Llama's weights, layer norms with biases, and a quarter of each head rotating."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import read_rope

NAMES = llama.NAMES | {
    "blocks/attention_norm/bias": "model.layers.{}.input_layernorm.bias",
    "blocks/mlp_norm/bias": "model.layers.{}.post_attention_layernorm.bias",
    "final_norm/bias": "model.norm.bias",
}


def read_config(fields: Fields) -> DecoderConfig:
    fields.inert("hidden_dropout")
    rope = read_rope(fields, fraction_of=(llama.head_dim_of(fields), "partial_rotary_factor", 0.25))
    norm_eps = fields.number("layer_norm_eps", 1e-5)
    config = llama.common_config(fields, llama.uniform_layers(rope, fields), kv_heads=32, norm_eps=norm_eps)
    parallel, bias = fields.flag("use_parallel_residual", False), fields.flag("use_qkv_bias", False)
    return dataclasses.replace(config, norm="layer", parallel=parallel, one_norm=parallel, qkv_bias=bias)


FAMILY = Family(read_config, NAMES)
