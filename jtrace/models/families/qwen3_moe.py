"""Qwen 3's mixtures of experts (arXiv 2505.09388): Qwen 3's attention, and experts in place of every MLP."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama, olmoe
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import read_rope


def read_config(fields: Fields) -> DecoderConfig:
    fields.inert("max_window_layers")
    used = fields.flag("use_sliding_window", False) and not fields.is_null("sliding_window")
    window = fields.size("sliding_window", 4096)
    layers = llama.uniform_layers(read_rope(fields), fields, window if used else None)
    config = llama.common_config(fields, layers, kv_heads=4)
    return dataclasses.replace(
        llama.with_biases(config, fields),
        qk_norm="head",
        mlp_width=fields.size("moe_intermediate_size", 768),
        experts=olmoe.read_experts(fields, 128, renormalised=False),
    )


FAMILY = Family(read_config, olmoe.NAMES)
