"""OPT (arXiv 2205.01068): learnt positions that begin at row 2, and layer norms on the inputs."""

from jtrace.models.config import DecoderConfig, LayerKind, LearntPositions
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Family, weights_and_biases

FIRST_POSITION = 2
NAMES = {
    "embedding": "model.decoder.embed_tokens.weight",
    "position_embedding": "model.decoder.embed_positions.weight",
    "head": "lm_head.weight",
    **weights_and_biases(
        {
            "blocks/attention_norm": "model.decoder.layers.{}.self_attn_layer_norm",
            "blocks/attention/q": "model.decoder.layers.{}.self_attn.q_proj",
            "blocks/attention/k": "model.decoder.layers.{}.self_attn.k_proj",
            "blocks/attention/v": "model.decoder.layers.{}.self_attn.v_proj",
            "blocks/attention/o": "model.decoder.layers.{}.self_attn.out_proj",
            "blocks/mlp_norm": "model.decoder.layers.{}.final_layer_norm",
            "blocks/mlp/up": "model.decoder.layers.{}.fc1",
            "blocks/mlp/down": "model.decoder.layers.{}.fc2",
            "final_norm": "model.decoder.final_layer_norm",
        }
    ),
}


def read_config(fields: Fields) -> DecoderConfig:
    heads, width = fields.size("num_attention_heads"), fields.size("hidden_size")
    context = fields.size("max_position_embeddings")
    if width % heads:
        raise fields.refuse(f"hidden_size {width} is not a multiple of num_attention_heads {heads}")
    if fields.size("word_embed_proj_dim", width) != width:
        raise fields.refuse("embeddings of another width (word_embed_proj_dim) are not implemented")
    fields.inert("dropout", "activation_dropout", "layerdrop", "init_std")
    bias = fields.flag("enable_bias", True)
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=fields.size("ffn_dim", 3072),
        context=context,
        layers=(LayerKind(None),) * fields.size("num_hidden_layers"),
        norm_eps=1e-5,
        norm="layer" if fields.flag("layer_norm_elementwise_affine", True) else "layer_bare",
        activation=fields.choice("activation_function", ACTIVATION_NAMES, "relu"),
        gated_mlp=False,
        tied_head=fields.flag("tie_word_embeddings", True),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        learnt_positions=LearntPositions(context + FIRST_POSITION, FIRST_POSITION),
    )


FAMILY = Family(read_config, NAMES, prefix="model.")
