"""OLMoE (arXiv 2409.02060): Llama's block with norms of q and k over the full width, and experts in place of MLPs."""

import dataclasses

from jtrace.models.config import DecoderConfig, Experts
from jtrace.models.families import llama
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family

NAMES = {name: tensor for name, tensor in llama.NAMES.items() if not name.startswith("blocks/mlp/")} | {
    "blocks/mlp/router": "model.layers.{}.mlp.gate.weight",
    "blocks/mlp/gate": "model.layers.{}.mlp.experts.{}.gate_proj.weight",
    "blocks/mlp/up": "model.layers.{}.mlp.experts.{}.up_proj.weight",
    "blocks/mlp/down": "model.layers.{}.mlp.experts.{}.down_proj.weight",
}


def read_experts(fields: Fields, count: int, renormalised: bool) -> Experts:
    """Reads the mixture; `count` and `renormalised` are what absent fields mean."""
    fields.inert("output_router_logits", "router_aux_loss_coef")
    experts = Experts(
        fields.size_of_either("num_experts", "num_local_experts", count),
        fields.size("num_experts_per_tok", 8),
        fields.flag("norm_topk_prob", renormalised),
    )
    if experts.chosen > experts.count:
        raise fields.refuse(f"num_experts_per_tok {experts.chosen} is more than the {experts.count} experts")
    return experts


def read_config(fields: Fields) -> DecoderConfig:
    config = llama.common_config(fields, llama.layer_kinds(fields), rms_norm_eps=1e-5)
    clip = fields.number_or_none("clip_qkv")
    experts = read_experts(fields, 64, renormalised=False)
    return dataclasses.replace(llama.with_biases(config, fields), qk_norm="width", clip_qkv=clip, experts=experts)


FAMILY = Family(read_config, NAMES)
