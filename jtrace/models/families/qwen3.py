"""Qwen 3 (arXiv 2505.09388): Llama's weights, with a norm over each head of queries and keys, and a free head size."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama, qwen2
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family


def read_config(fields: Fields) -> DecoderConfig:
    layers = llama.layer_kinds(fields, qwen2.windows(fields))
    config = llama.common_config(fields, layers, kv_heads=32, head_dim=128)
    return dataclasses.replace(llama.with_biases(config, fields), qk_norm="head")


FAMILY = Family(read_config, llama.NAMES)
