"""Qwen 2 and 2.5 (arXiv 2407.10671): Llama's weights, with biases on queries, keys and values alone."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import read_windows


def windows(fields: Fields) -> list[int | None]:
    """Reads windows: from layer `max_window_layers` on, or on layers that `layer_types` names; None if not used."""
    used, depth = fields.flag("use_sliding_window", False), fields.size("num_hidden_layers")
    first = fields.size("max_window_layers", 28, least=0)
    window = fields.size("sliding_window", 4096)
    used = used and not fields.is_null("sliding_window")
    return read_windows(fields, window if used else None, [used and i >= first for i in range(depth)])


def read_config(fields: Fields) -> DecoderConfig:
    config = llama.common_config(fields, llama.layer_kinds(fields, windows(fields)), kv_heads=32)
    return dataclasses.replace(config, qkv_bias=True)


FAMILY = Family(read_config, llama.NAMES)
