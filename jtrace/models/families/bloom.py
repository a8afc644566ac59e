"""BLOOM (arXiv 2211.05100): ALiBi in place of positions, and a norm on the embedding."""

from jtrace.models.config import DecoderConfig, LayerKind
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import Family, weights_and_biases

NAMES = {
    "embedding": "transformer.word_embeddings.weight",
    "head": "lm_head.weight",
    **weights_and_biases(
        {
            "embedding_norm": "transformer.word_embeddings_layernorm",
            "blocks/attention_norm": "transformer.h.{}.input_layernorm",
            "blocks/attention/q": "transformer.h.{}.self_attention.query_key_value",
            "blocks/attention/k": "transformer.h.{}.self_attention.query_key_value",
            "blocks/attention/v": "transformer.h.{}.self_attention.query_key_value",
            "blocks/attention/o": "transformer.h.{}.self_attention.dense",
            "blocks/mlp_norm": "transformer.h.{}.post_attention_layernorm",
            "blocks/mlp/up": "transformer.h.{}.mlp.dense_h_to_4h",
            "blocks/mlp/down": "transformer.h.{}.mlp.dense_4h_to_h",
            "final_norm": "transformer.ln_f",
        }
    ),
}


def read_config(fields: Fields) -> DecoderConfig:
    size = fields.size_of_either
    heads, width = size("n_head", "num_attention_heads"), size("n_embed", "hidden_size")
    if width % heads:
        raise fields.refuse(f"hidden_size {width} is not a multiple of n_head {heads}")
    # The order of sums among the devices that trained it, and settings of that training.
    fields.inert("slow_but_exact", "hidden_dropout", "attention_softmax_in_fp32", "bias_dropout_fusion")
    fields.inert("masked_softmax_fusion", "offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "unk_token_id")
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=4 * width,
        # ALiBi has no last position; all of BLOOM was trained on 2048.
        context=size("seq_length", "max_position_embeddings", 2048),
        layers=(LayerKind(None),) * size("n_layer", "num_hidden_layers"),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        norm="layer",
        activation="gelu_tanh",
        gated_mlp=False,
        tied_head=fields.flag("tie_word_embeddings", True),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        alibi=True,
        embedding_norm=True,
    )


FAMILY = Family(read_config, NAMES, fused_by_head=True, prefix="transformer.")
