"""GPT-NeoX (arXiv 2204.06745): Pythia and PolyPythias. Layer norms with biases, attention and MLP side by side."""

from jtrace.models.config import DecoderConfig, LayerKind
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Family, weights_and_biases
from jtrace.models.families.layer_config import read_rope

NAMES = {
    "embedding": "gpt_neox.embed_in.weight",
    "head": "embed_out.weight",
    **weights_and_biases(
        {
            "blocks/attention_norm": "gpt_neox.layers.{}.input_layernorm",
            "blocks/attention/q": "gpt_neox.layers.{}.attention.query_key_value",
            "blocks/attention/k": "gpt_neox.layers.{}.attention.query_key_value",
            "blocks/attention/v": "gpt_neox.layers.{}.attention.query_key_value",
            "blocks/attention/o": "gpt_neox.layers.{}.attention.dense",
            "blocks/mlp_norm": "gpt_neox.layers.{}.post_attention_layernorm",
            "blocks/mlp/up": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
            "blocks/mlp/down": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
            "final_norm": "gpt_neox.final_layer_norm",
        }
    ),
}


def read_config(fields: Fields) -> DecoderConfig:
    heads, width = fields.size("num_attention_heads"), fields.size("hidden_size")
    if width % heads:
        raise fields.refuse(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
    bias = fields.flag("attention_bias", True)
    fields.inert("hidden_dropout", "classifier_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob")
    # transformers 4.4x writes these beside the older names and reads only those.
    for name, older in (("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")):
        if fields.take(name, None) != fields.take(older, None) and fields.take(name, None) is not None:
            raise fields.refuse(f"the fields '{name}' and '{older}' differ; keep '{older}'")
    rope = read_rope(fields, old_theta="rotary_emb_base", fraction_of=(width // heads, "rotary_pct", 0.25))
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=fields.size("intermediate_size"),
        context=fields.size("max_position_embeddings"),
        layers=(LayerKind(rope),) * fields.size("num_hidden_layers"),
        norm_eps=fields.number("layer_norm_eps", 1e-5),
        norm="layer",
        parallel=fields.flag("use_parallel_residual", True),
        activation=fields.choice("hidden_act", ACTIVATION_NAMES, "gelu"),
        gated_mlp=False,
        tied_head=fields.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
    )


FAMILY = Family(read_config, NAMES, fused_by_head=True, aliases={"lm_head.weight": "embed_out.weight"})
