"""Gemma 2 (arXiv 2408.00118): norms before and after each branch, gains of 1 + weight, and soft bounds on logits."""

import dataclasses
import math
from collections.abc import Sequence

from jtrace.models.config import DecoderConfig, LayerKind, Rope
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Family
from jtrace.models.families.layer_config import read_rope, read_windows

NAMES = llama.NAMES | {
    "blocks/attention_out_norm/weight": "model.layers.{}.post_attention_layernorm.weight",
    "blocks/mlp_norm/weight": "model.layers.{}.pre_feedforward_layernorm.weight",
    "blocks/mlp_out_norm/weight": "model.layers.{}.post_feedforward_layernorm.weight",
}


def gemma_config(
    fields: Fields, ropes: Sequence[Rope], windows: Sequence[int | None], caps: tuple[float | None, float | None]
) -> DecoderConfig:
    """Builds a decoder of Gemma's block.

    Args:
        ropes, windows: of each layer.
        caps: soft bounds on attention's logits and on the head's, where the fields are absent.
    """
    # Files carry the activation of the first Gemma beside the one that is read.
    activation = fields.choice("hidden_activation", ACTIVATION_NAMES, "gelu_pytorch_tanh")
    fields.inert("hidden_act", "cache_implementation", "sliding_window_size")
    scale = fields.number("query_pre_attn_scalar", 256) ** -0.5
    layers = tuple(LayerKind(rope, window, scale) for rope, window in zip(ropes, windows, strict=True))
    config = llama.common_config(fields, layers, kv_heads=4, head_dim=256, tied_head=True)
    attention_cap, logit_cap = (
        fields.number_or_none(name, cap)
        for name, cap in zip(("attn_logit_softcapping", "final_logit_softcapping"), caps, strict=True)
    )
    return dataclasses.replace(
        llama.with_biases(config, fields),
        norm="rms_plus_one",
        norms="both",
        activation=activation,
        embedding_scale=math.sqrt(config.width),
        attention_cap=attention_cap,
        logit_cap=logit_cap,
    )


def read_config(fields: Fields) -> DecoderConfig:
    depth = fields.size("num_hidden_layers")
    window = fields.size_or_none("sliding_window", 4096)
    windows = read_windows(fields, window, [i % 2 == 0 for i in range(depth)])
    return gemma_config(fields, [read_rope(fields)] * depth, windows, (50.0, 30.0))


FAMILY = Family(read_config, NAMES)
