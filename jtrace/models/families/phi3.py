"""Phi-3 (arXiv 2404.14219): Llama's block, with q, k, v in one tensor, and gate and up in another."""

from jtrace.models.config import DecoderConfig
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family
from jtrace.models.families.layer_config import read_rope

NAMES = llama.NAMES | {
    **{f"blocks/attention/{name}/weight": "model.layers.{}.self_attn.qkv_proj.weight" for name in "qkv"},
    **{f"blocks/mlp/{name}/weight": "model.layers.{}.mlp.gate_up_proj.weight" for name in ("gate", "up")},
}


def read_config(fields: Fields) -> DecoderConfig:
    fields.inert("resid_pdrop", "embd_pdrop", "original_max_position_embeddings")
    head_dim = llama.head_dim_of(fields)
    rope = read_rope(fields, fraction_of=(head_dim, "partial_rotary_factor", 1.0), kinds=("default",))
    window = fields.size_or_none("sliding_window")
    return llama.common_config(fields, llama.uniform_layers(rope, fields, window), rms_norm_eps=1e-5)


FAMILY = Family(read_config, NAMES)
