"""OLMo as its first checkpoints name it (`hf_olmo`), DataDecide's among them: OLMo's block under other names.

What the fields and names mean is read from transformers' conversion of these files to `olmo`.
"""

from jtrace.models.config import DecoderConfig, LayerKind, NormKind, Rope
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family

NAMES = {
    "embedding": "model.transformer.wte.weight",
    "blocks/attention_norm/weight": "model.transformer.blocks.{}.attn_norm.weight",
    "blocks/attention/q/weight": "model.transformer.blocks.{}.att_proj.weight",
    "blocks/attention/k/weight": "model.transformer.blocks.{}.att_proj.weight",
    "blocks/attention/v/weight": "model.transformer.blocks.{}.att_proj.weight",
    "blocks/attention/q_norm/weight": "model.transformer.blocks.{}.q_norm.weight",
    "blocks/attention/k_norm/weight": "model.transformer.blocks.{}.k_norm.weight",
    "blocks/attention/o/weight": "model.transformer.blocks.{}.attn_out.weight",
    "blocks/mlp_norm/weight": "model.transformer.blocks.{}.ff_norm.weight",
    "blocks/mlp/up/weight": "model.transformer.blocks.{}.ff_proj.weight",
    "blocks/mlp/gate/weight": "model.transformer.blocks.{}.ff_proj.weight",
    "blocks/mlp/down/weight": "model.transformer.blocks.{}.ff_out.weight",
    "final_norm/weight": "model.transformer.ln_f.weight",
    "blocks/attention_norm/bias": "model.transformer.blocks.{}.attn_norm.bias",
    "blocks/mlp_norm/bias": "model.transformer.blocks.{}.ff_norm.bias",
    "final_norm/bias": "model.transformer.ln_f.bias",
    "head": "model.transformer.ff_out.weight",
}
# Settings of training, and of how its code computes.
INERT = (
    *("alibi_bias_max", "attention_dropout", "block_group_size", "embedding_dropout", "emb_init_std"),
    *("flash_attention", "init_cutoff_factor", "init_device", "init_fn", "init_std", "precision", "residual_dropout"),
    *("rope_full_precision", "attention_layer_norm_with_affine"),
)


def read_config(fields: Fields) -> DecoderConfig:
    fields.inert(*INERT)
    heads, width = fields.size("n_heads"), fields.size("d_model")
    if width % heads or width // heads % 2:
        raise fields.refuse(f"d_model {width} does not give {heads} heads of an even size")
    vocab_size = fields.size("embedding_size", fields.size("vocab_size"))
    mlp_width = fields.size("mlp_hidden_size", fields.size("mlp_ratio", 4) * width) // 2
    kv_heads = fields.size("n_kv_heads", 1 if fields.flag("multi_query_attention", False) else heads)
    if fields.flag("include_bias", True):
        raise fields.refuse("biases of linear maps (include_bias, true where it is absent) are not implemented")
    norm, qk_norm = _read_norm(fields), fields.flag("attention_layer_norm", False)
    if qk_norm and norm != "rms":
        raise fields.refuse("attention_layer_norm is implemented with layer_norm_type 'rms' alone")
    if heads % kv_heads:
        raise fields.refuse(f"n_heads {heads} is not a multiple of n_kv_heads {kv_heads}")
    clip = fields.number_or_none("clip_qkv")
    rope = Rope(fields.number("rope_theta", 10_000.0))
    return DecoderConfig(
        vocab_size=vocab_size,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width // heads,
        mlp_width=mlp_width,
        context=fields.size("max_sequence_length", 1024),
        layers=(LayerKind(rope),) * fields.size("n_layers"),
        norm_eps=fields.number("layer_norm_eps", 1e-5),
        norm=norm,
        activation=fields.choice("activation_type", {"swiglu": "silu"}, "swiglu"),
        tied_head=fields.flag("weight_tying", True),
        qk_norm="width" if qk_norm else None,
        clip_qkv=clip,
    )


def _read_norm(fields: Fields) -> NormKind:
    kind = fields.choice("layer_norm_type", {"default": "layer", "low_precision": "layer", "rms": "rms"}, "default")
    affine, bias = fields.flag("layer_norm_with_affine", True), fields.flag("bias_for_layer_norm", False)
    norms: dict[tuple[str, bool, bool], NormKind] = {
        ("rms", True, False): "rms",
        ("layer", True, True): "layer",
        ("layer", False, bias): "layer_bare",
    }
    if (kind, affine, bias) not in norms:
        raise fields.refuse(
            f"norms of kind '{kind}' with layer_norm_with_affine {affine} and bias_for_layer_norm {bias} are not "
            "implemented"
        )
    return norms[kind, affine, bias]


FAMILY = Family(read_config, NAMES)
