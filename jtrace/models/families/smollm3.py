"""SmolLM3: Llama's weights; every fourth layer has no positions (NoPE, arXiv 2305.19466)."""

import dataclasses

from jtrace.models.config import DecoderConfig, LayerKind
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import read_rope, read_windows


def read_config(fields: Fields) -> DecoderConfig:
    depth = fields.size("num_hidden_layers")
    # Qwen's code wrote it into the configs, and nothing reads it.
    fields.inert("max_window_layers")
    window = fields.size_or_none("sliding_window")
    if not fields.flag("use_sliding_window", False):
        window = None
    interval = fields.size("no_rope_layer_interval", 4)
    rotates = fields.flags("no_rope_layers", depth, [(i + 1) % interval != 0 for i in range(depth)])
    windows = read_windows(fields, window, [window is not None and not rotating for rotating in rotates])
    rope = read_rope(fields, theta=2_000_000.0)
    layers = tuple(LayerKind(rope if r else None, w) for r, w in zip(rotates, windows, strict=True))
    config = llama.common_config(fields, layers, kv_heads=4, tied_head=True)
    return dataclasses.replace(llama.with_biases(config, fields), mlp_bias=fields.flag("mlp_bias", False))


FAMILY = Family(read_config, llama.NAMES)
