"""Tiny checkpoints: between them, every config field that llama and mistral read takes a value that is no default."""

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
}
