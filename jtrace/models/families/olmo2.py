"""OLMo 2 (arXiv 2501.00656): norms on outputs of attention and MLP, and on queries and keys over the full width."""

import dataclasses

from jtrace.models.config import DecoderConfig, LayerKind
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family

NAMES = llama.NAMES | {
    "blocks/attention_norm/weight": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp_norm/weight": "model.layers.{}.post_feedforward_layernorm.weight",
}


def olmo2_config(fields: Fields, layers: tuple[LayerKind, ...]) -> DecoderConfig:
    """Builds a decoder of OLMo 2's block; OLMo 3 differs in its layers only."""
    config = llama.common_config(fields, layers, rms_norm_eps=1e-5)
    config = llama.with_biases(config, fields)
    return dataclasses.replace(config, norm="rms_late_cast", norms="after", qk_norm="width")


def read_config(fields: Fields) -> DecoderConfig:
    return olmo2_config(fields, llama.layer_kinds(fields))


FAMILY = Family(read_config, NAMES)
