"""Tiny checkpoints: between them, every config field that a family reads takes a value that is no default."""

from typing import Any

BASE = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.02,
}
MISTRAL = {key: value for key, value in BASE.items() if key not in ("attention_bias", "mlp_bias")} | {
    "model_type": "mistral"
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 30.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 40.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 3.0,
    "beta_slow": 0.5,
}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
BIASES = ("attention_bias", "mlp_bias")


def like_llama(model_type: str, *absent: str, **values: Any) -> dict[str, Any]:
    """Llama's tiny config as another family's, without the fields that the family does not know."""
    return {key: value for key, value in BASE.items() if key not in absent} | {"model_type": model_type} | values


NEOX = like_llama(
    "gpt_neox",
    *BIASES,
    "num_key_value_heads",
    "rms_norm_eps",
    hidden_act="gelu",
    layer_norm_eps=1e-5,
    rope_parameters=PLAIN | {"partial_rotary_factor": 0.34},
)
OLMO = like_llama("olmo", "mlp_bias", "rms_norm_eps")
OLMO2 = like_llama("olmo2", "mlp_bias")
OLMO3 = like_llama("olmo3", "mlp_bias", "rope_parameters", num_hidden_layers=4, sliding_window=5)
QWEN2 = like_llama("qwen2", *BIASES)
QWEN3 = like_llama("qwen3", "mlp_bias", head_dim=8)
SMOLLM3 = like_llama("smollm3", num_hidden_layers=4, tie_word_embeddings=True, pad_token_id=0)

VARIANTS: dict[str, dict[str, Any]] = {
    "llama-full": BASE,
    "llama-grouped-tied": BASE | {"num_key_value_heads": 2, "tie_word_embeddings": True, "hidden_act": "gelu"},
    "llama-multiquery-head-dim": BASE | {"num_key_value_heads": 1, "head_dim": 10, "rms_norm_eps": 1e-2},
    "llama-attention-bias": BASE | {"attention_bias": True, "hidden_act": "gelu_pytorch_tanh"},
    "llama-mlp-bias": BASE | {"mlp_bias": True, "hidden_act": "relu"},
    "llama-rope-theta": BASE | {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}},
    "llama-rope-llama3": BASE | {"rope_parameters": LLAMA3},
    "llama-rope-linear": BASE | {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}},
    "mistral-window": MISTRAL | {"sliding_window": 5, "num_key_value_heads": 2},
    "mistral-no-window": MISTRAL | {"sliding_window": None, "head_dim": 8},
    "llama-rope-yarn": BASE | {"rope_parameters": YARN},
    "llama-rope-yarn-smooth": BASE | {"rope_parameters": YARN | {"truncate": False, "attention_factor": 0.9}},
    "gpt_neox-full": NEOX,
    "gpt_neox-sequential-tied": NEOX
    | {"use_parallel_residual": False, "tie_word_embeddings": True, "hidden_act": "gelu_new", "layer_norm_eps": 1e-2},
    "gpt_neox-no-attention-bias": NEOX | {"attention_bias": False, "num_attention_heads": 2},
    "gpt_neox-rope-linear": NEOX
    | {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 50.0, "partial_rotary_factor": 1.0}},
    "olmo-full": OLMO,
    "olmo-clipped-grouped-tied": OLMO | {"clip_qkv": 0.6, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "olmo-multiquery-bias": OLMO
    | {
        "num_key_value_heads": 1,
        "attention_bias": True,
        "hidden_act": "gelu",
        "rope_parameters": {**PLAIN, "rope_theta": 50.0},
    },
    "olmo2-full": OLMO2,
    "olmo2-grouped-tied": OLMO2 | {"num_key_value_heads": 2, "tie_word_embeddings": True, "rms_norm_eps": 1e-2},
    "olmo2-multiquery-bias": OLMO2 | {"num_key_value_heads": 1, "attention_bias": True, "hidden_act": "relu"},
    "olmo3-yarn": OLMO3 | {"rope_parameters": {"full_attention": YARN, "sliding_attention": PLAIN}},
    "olmo3-grouped-tied": OLMO3
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": PLAIN, "sliding_attention": {**PLAIN, "rope_theta": 50.0}},
    },
    "olmo3-multiquery-bias": OLMO3
    | {"num_key_value_heads": 1, "attention_bias": True, "rms_norm_eps": 1e-2, "hidden_act": "gelu"},
    "qwen2-full": QWEN2,
    "qwen2-window-grouped-tied": QWEN2
    | {
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2-multiquery-layer-types": QWEN2
    | {
        "use_sliding_window": True,
        "sliding_window": 7,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-2,
        "hidden_act": "gelu",
        "rope_parameters": {**PLAIN, "rope_theta": 50.0},
    },
    "qwen3-full": QWEN3,
    "qwen3-window-grouped-tied": QWEN3
    | {
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 2,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-2,
    },
    "qwen3-multiquery-bias-yarn": QWEN3
    | {"num_key_value_heads": 1, "head_dim": 12, "attention_bias": True, "hidden_act": "gelu", "rope_parameters": YARN},
    "smollm3-full": SMOLLM3,
    "smollm3-grouped-untied-windows": SMOLLM3
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "use_sliding_window": True,
        "sliding_window": 5,
        "no_rope_layer_interval": 2,
        "rms_norm_eps": 1e-2,
    },
    "smollm3-multiquery-biases": SMOLLM3
    | {
        "num_key_value_heads": 1,
        "no_rope_layers": [0, 1, 1, 0],
        "attention_bias": True,
        "mlp_bias": True,
        "hidden_act": "gelu",
        "rope_parameters": {**PLAIN, "rope_theta": 50.0},
    },
}

# Between them every family, norm, attention, rotary scaling and kind of layer: what runs by default.
COVERING = (
    "llama-rope-llama3",
    "mistral-window",
    "gpt_neox-sequential-tied",
    "gpt_neox-rope-linear",
    "olmo-clipped-grouped-tied",
    "olmo2-multiquery-bias",
    "olmo3-yarn",
    "qwen2-multiquery-layer-types",
    "qwen3-window-grouped-tied",
    "smollm3-multiquery-biases",
)
