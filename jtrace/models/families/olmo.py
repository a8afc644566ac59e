"""OLMo (arXiv 2402.00838): Llama's weights, layer norms without params, and an optional bound on q, k and v."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family


def read_config(fields: Fields) -> DecoderConfig:
    config = llama.common_config(fields, llama.layer_kinds(fields), norm_eps=1e-5)
    clip = fields.number_or_none("clip_qkv")
    return dataclasses.replace(llama.with_biases(config, fields), norm="layer_bare", clip_qkv=clip)


FAMILY = Family(read_config, llama.NAMES)
