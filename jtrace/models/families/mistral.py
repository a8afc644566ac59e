"""Mistral (arXiv 2310.06825): Llama's weights, with grouped heads by default and a sliding window on every layer."""

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family


def read_config(fields: Fields) -> DecoderConfig:
    # transformers takes an absent window for 4096 and a null one for none.
    window = fields.size_or_none("sliding_window", 4096)
    windows = [window] * fields.size("num_hidden_layers")
    return llama.common_config(fields, llama.layer_kinds(fields, windows), kv_heads=8)


FAMILY = Family(read_config, llama.NAMES)
