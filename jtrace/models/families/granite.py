"""Granite: Llama's weights, with factors of the embedding, of attention's logits, of each branch and of logits."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import read_rope


def read_config(fields: Fields) -> DecoderConfig:
    scale = fields.number("attention_multiplier", 1.0)
    config = llama.common_config(fields, llama.uniform_layers(read_rope(fields), fields, scale=scale))
    return dataclasses.replace(
        llama.with_biases(config, fields),
        mlp_bias=fields.flag("mlp_bias", False),
        embedding_scale=fields.number("embedding_multiplier", 1.0),
        branch_scale=fields.number("residual_multiplier", 1.0),
        logit_scale=1 / fields.number("logits_scaling", 1.0),
    )


FAMILY = Family(read_config, llama.NAMES)
