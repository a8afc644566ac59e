"""Apertus (arXiv 2509.14233): Llama's attention with a norm over each head of q and k; xIELU in an MLP without gate."""

import dataclasses
from typing import Any

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Activation, Family
from jtrace.models.families.layer_config import read_rope

NAMES = llama.NAMES | {
    "blocks/attention_norm/weight": "model.layers.{}.attention_layernorm.weight",
    "blocks/mlp_norm/weight": "model.layers.{}.feedforward_layernorm.weight",
    **{f"blocks/mlp/{name}": f"model.layers.{{}}.mlp.act_fn.{name}" for name in ("alpha_p", "alpha_n", "beta", "eps")},
}
ACTIVATIONS: dict[str, Activation] = {**ACTIVATION_NAMES, "xielu": "xielu"}
# Positions where a file says nothing of them, as transformers takes them.
DEFAULT_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 12_000_000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


def read_config(fields: Fields) -> DecoderConfig:
    if not fields.flag("qk_norm", True) or fields.flag("post_norm", False):
        raise fields.refuse("qk_norm false or post_norm true is not implemented")
    fields.inert("hidden_dropout")
    rope = read_rope(fields, theta=12_000_000.0, absent=DEFAULT_ROPE)
    layers = llama.uniform_layers(rope, fields)
    config = llama.common_config(fields, layers, rms_norm_eps=1e-5, activations=ACTIVATIONS, activation="xielu")
    return dataclasses.replace(llama.with_biases(config, fields), qk_norm="head", gated_mlp=False)


FAMILY = Family(read_config, NAMES)
