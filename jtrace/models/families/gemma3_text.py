"""Gemma 3 (arXiv 2503.19786), text: Gemma 2's block with norms on q and k; five of six layers have a window."""

import dataclasses

from jtrace.models.config import DecoderConfig
from jtrace.models.families import gemma2
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import LAYER_TYPES, read_ropes_by_layer_type, read_windows


def read_config(fields: Fields) -> DecoderConfig:
    depth = fields.size("num_hidden_layers")
    window = fields.size_or_none("sliding_window", 4096)
    interval = fields.size("sliding_window_pattern", 6)
    fields.inert("_sliding_window_pattern")
    windows = read_windows(fields, window, [(i + 1) % interval != 0 for i in range(depth)])
    ropes = read_ropes_by_layer_type(fields, 1_000_000.0, sliding=("rope_local_base_freq", 10_000.0))
    by_layer = [ropes[LAYER_TYPES[window is None]] for window in windows]
    config = gemma2.gemma_config(fields, by_layer, windows, (None, None))
    return dataclasses.replace(config, qk_norm="head")


FAMILY = Family(read_config, gemma2.NAMES)
