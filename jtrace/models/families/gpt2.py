"""GPT-2: learnt positions, layer norms with biases, and weights that files keep as [in, out]. CRFM's grid of seeds."""

import re

from jtrace.models.config import DecoderConfig, LayerKind, LearntPositions
from jtrace.models.families.config_reader import Fields
from jtrace.models.families.family import ACTIVATION_NAMES, Family, weights_and_biases

NAMES = {
    "embedding": "transformer.wte.weight",
    "position_embedding": "transformer.wpe.weight",
    "head": "lm_head.weight",
    **weights_and_biases(
        {
            "blocks/attention_norm": "transformer.h.{}.ln_1",
            "blocks/attention/q": "transformer.h.{}.attn.c_attn",
            "blocks/attention/k": "transformer.h.{}.attn.c_attn",
            "blocks/attention/v": "transformer.h.{}.attn.c_attn",
            "blocks/attention/o": "transformer.h.{}.attn.c_proj",
            "blocks/mlp_norm": "transformer.h.{}.ln_2",
            "blocks/mlp/up": "transformer.h.{}.mlp.c_fc",
            "blocks/mlp/down": "transformer.h.{}.mlp.c_proj",
            "final_norm": "transformer.ln_f",
        }
    ),
}


def read_config(fields: Fields) -> DecoderConfig:
    size = fields.size_of_either
    heads, width = size("n_head", "num_attention_heads"), size("n_embd", "hidden_size")
    depth, context = size("n_layer", "num_hidden_layers"), size("n_positions", "max_position_embeddings")
    if width % heads:
        raise fields.refuse(f"n_embd {width} is not a multiple of n_head {heads}")
    fields.inert("n_ctx", "attn_pdrop", "embd_pdrop", "resid_pdrop", "reorder_and_upcast_attn")
    fields.inert("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type")
    fields.inert("summary_use_proj", "n_special", "predict_special_tokens", "output_past", "_num_labels")
    scale = (width // heads) ** -0.5 if fields.flag("scale_attn_weights", True) else 1.0
    by_layer = fields.flag("scale_attn_by_inverse_layer_idx", False)
    return DecoderConfig(
        vocab_size=fields.size("vocab_size"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        mlp_width=fields.size("n_inner", 4 * width),
        context=context,
        layers=tuple(LayerKind(None, scale=scale / (layer + 1 if by_layer else 1)) for layer in range(depth)),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        norm="layer",
        activation=fields.choice("activation_function", ACTIVATION_NAMES, "gelu_new"),
        gated_mlp=False,
        tied_head=fields.flag("tie_word_embeddings", True),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        learnt_positions=LearntPositions(context),
    )


FAMILY = Family(
    read_config,
    NAMES,
    transposed=re.compile(r".*\.(c_attn|c_proj|c_fc)\.weight"),
    prefix="transformer.",
    ignored=re.compile(r".*\.attn\.(bias|masked_bias)"),
)
