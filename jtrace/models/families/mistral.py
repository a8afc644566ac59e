"""Mistral (arXiv 2310.06825): Llama's weights, with grouped heads by default and a sliding window on every layer."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.family import Family
from jtrace.models.families.fields import Fields


def read_config(fields: Fields) -> DecoderConfig:
    config = llama.common_config(fields, default_kv_heads=8)
    # Transformers reads an absent window as 4096 and a null one as none.
    window = fields.size("sliding_window", 4096)
    return dataclasses.replace(config, window=None if fields.is_null("sliding_window") else window)


FAMILY = Family(read_config, llama.NAMES)
