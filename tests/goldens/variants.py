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

GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 61,
    "n_embd": 24,
    "n_inner": 40,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {
    "model_type": "opt",
    "vocab_size": 61,
    "hidden_size": 24,
    "ffn_dim": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BLOOM = {
    "model_type": "bloom",
    "vocab_size": 61,
    "hidden_size": 24,
    "n_layer": 3,
    "n_head": 4,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
APERTUS = like_llama("apertus", "mlp_bias", hidden_act="xielu", rope_parameters=LLAMA3)
GEMMA2 = like_llama(
    "gemma2",
    *("mlp_bias", "hidden_act"),
    hidden_activation="gelu_pytorch_tanh",
    head_dim=8,
    sliding_window=5,
    query_pre_attn_scalar=6,
    attn_logit_softcapping=3.0,
    final_logit_softcapping=2.0,
    tie_word_embeddings=True,
    pad_token_id=0,
)
GEMMA3 = {
    key: value for key, value in GEMMA2.items() if not key.endswith("softcapping") and key != "rope_parameters"
} | {"model_type": "gemma3_text", "num_hidden_layers": 4}
PHI3 = like_llama("phi3", *BIASES, pad_token_id=0)
STABLELM = like_llama("stablelm", *BIASES, "rms_norm_eps", layer_norm_eps=1e-5)
GRANITE = like_llama(
    "granite",
    embedding_multiplier=3.0,
    attention_multiplier=0.3,
    residual_multiplier=0.7,
    logits_scaling=2.5,
)
MIXTURE = {"num_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 16}
OLMOE = like_llama("olmoe", "mlp_bias") | MIXTURE
QWEN3_MOE = like_llama("qwen3_moe", "mlp_bias", head_dim=8) | MIXTURE | {"moe_intermediate_size": 12}
HF_OLMO = {
    "model_type": "hf_olmo",
    "vocab_size": 59,
    "embedding_size": 61,
    "d_model": 24,
    "mlp_ratio": 4,
    "mlp_hidden_size": 80,
    "n_layers": 3,
    "n_heads": 4,
    "max_sequence_length": 128,
    "activation_type": "swiglu",
    "alibi": False,
    "attention_layer_norm": False,
    "block_type": "sequential",
    "include_bias": False,
    "layer_norm_type": "default",
    "layer_norm_with_affine": False,
    "bias_for_layer_norm": False,
    "rope": True,
    "rope_theta": 10000.0,
    "weight_tying": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

VARIANTS |= {
    "gpt2-full": GPT2,
    "gpt2-by-layer-untied": GPT2
    | {
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "n_inner": None,
        "activation_function": "relu",
        "layer_norm_epsilon": 1e-2,
        "tie_word_embeddings": False,
    },
    "gpt2-unscaled": GPT2 | {"scale_attn_weights": False, "activation_function": "gelu"},
    "opt-full": OPT,
    "opt-bare-untied": OPT
    | {
        "enable_bias": False,
        "layer_norm_elementwise_affine": False,
        "activation_function": "gelu",
        "tie_word_embeddings": False,
    },
    "bloom-full": BLOOM,
    "bloom-six-heads-untied": BLOOM | {"n_head": 6, "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
    "apertus-full": APERTUS,
    "apertus-grouped-tied": APERTUS | {"num_key_value_heads": 2, "tie_word_embeddings": True, "rms_norm_eps": 1e-2},
    "apertus-multiquery-bias": APERTUS
    | {"num_key_value_heads": 1, "attention_bias": True, "rope_parameters": {**PLAIN, "rope_theta": 50.0}},
    "gemma2-full": GEMMA2,
    "gemma2-grouped-untied": GEMMA2
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "hidden_activation": "silu",
        "rms_norm_eps": 1e-2,
    },
    "gemma2-multiquery-bias": GEMMA2
    | {"num_key_value_heads": 1, "attention_bias": True, "rope_parameters": {**PLAIN, "rope_theta": 50.0}},
    "gemma3_text-full": GEMMA3 | {"sliding_window_pattern": 3},
    "gemma3_text-grouped-untied": GEMMA3
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_theta": 70.0,
        "rope_local_base_freq": 20.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        "rms_norm_eps": 1e-2,
    },
    "gemma3_text-multiquery-bias": GEMMA3
    | {
        "num_key_value_heads": 1,
        "attention_bias": True,
        "hidden_activation": "silu",
        "rope_parameters": {"full_attention": YARN, "sliding_attention": {**PLAIN, "rope_theta": 50.0}},
    },
    "phi3-full": PHI3,
    "phi3-partial-grouped-tied-window": PHI3
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "sliding_window": 5,
        "rope_parameters": {**PLAIN, "partial_rotary_factor": 0.67},
        "rms_norm_eps": 1e-2,
    },
    "phi3-multiquery": PHI3 | {"num_key_value_heads": 1, "hidden_act": "gelu"},
    "stablelm-full": STABLELM | {"rope_parameters": {**PLAIN, "partial_rotary_factor": 0.34}},
    "stablelm-parallel-grouped-tied-bias": STABLELM
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "use_parallel_residual": True,
        "use_qkv_bias": True,
        "rope_parameters": {**PLAIN, "partial_rotary_factor": 0.67},
        "layer_norm_eps": 1e-2,
    },
    "stablelm-multiquery": STABLELM
    | {
        "num_key_value_heads": 1,
        "hidden_act": "gelu",
        "rope_parameters": {**PLAIN, "rope_theta": 50.0, "partial_rotary_factor": 1.0},
    },
    "granite-full": GRANITE,
    "granite-grouped-tied": GRANITE | {"num_key_value_heads": 2, "tie_word_embeddings": True, "rms_norm_eps": 1e-2},
    "granite-multiquery-biases": GRANITE
    | {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    "olmoe-full": OLMOE,
    "olmoe-grouped-tied-clipped": OLMOE
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "norm_topk_prob": True,
        "num_experts_per_tok": 3,
        "clip_qkv": 0.6,
        "rms_norm_eps": 1e-2,
    },
    "olmoe-multiquery-bias": OLMOE | {"num_key_value_heads": 1, "attention_bias": True, "hidden_act": "gelu"},
    "qwen3_moe-full": QWEN3_MOE | {"norm_topk_prob": True},
    "qwen3_moe-grouped-tied-window": QWEN3_MOE
    | {
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "use_sliding_window": True,
        "sliding_window": 5,
        "num_experts": 5,
        "rms_norm_eps": 1e-2,
    },
    "qwen3_moe-multiquery-bias": QWEN3_MOE
    | {"num_key_value_heads": 1, "attention_bias": True, "hidden_act": "gelu", "rope_parameters": YARN},
    "hf_olmo-full": HF_OLMO | {"clip_qkv": 0.6},
    "hf_olmo-multiquery-tied": HF_OLMO
    | {"multi_query_attention": True, "weight_tying": True, "mlp_hidden_size": None, "rope_theta": 50.0},
    "hf_olmo-grouped-rms": HF_OLMO
    | {"n_kv_heads": 2, "layer_norm_type": "rms", "layer_norm_with_affine": True, "layer_norm_eps": 1e-2},
}


def in_transformers(values: dict[str, Any]) -> dict[str, Any]:
    """The same model as one of a family that transformers has a model of; only `hf_olmo` is another."""
    if values["model_type"] != "hf_olmo":
        return values
    kv_heads = values.get("n_kv_heads", 1 if values.get("multi_query_attention") else values["n_heads"])
    bare = not values["layer_norm_with_affine"]
    return like_llama(
        "olmo" if bare else "llama",
        *(("mlp_bias", "rms_norm_eps") if bare else ()),
        num_key_value_heads=kv_heads,
        intermediate_size=(values["mlp_hidden_size"] or values["mlp_ratio"] * values["d_model"]) // 2,
        tie_word_embeddings=values["weight_tying"],
        rope_parameters={**PLAIN, "rope_theta": values["rope_theta"]},
        **({"clip_qkv": values.get("clip_qkv")} if bare else {"rms_norm_eps": values["layer_norm_eps"]}),
    )


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
    "gpt2-by-layer-untied",
    "opt-full",
    "bloom-six-heads-untied",
    "apertus-multiquery-bias",
    "gemma2-full",
    "gemma3_text-multiquery-bias",
    "phi3-partial-grouped-tied-window",
    "stablelm-parallel-grouped-tied-bias",
    "granite-multiquery-biases",
    "olmoe-grouped-tied-clipped",
    "qwen3_moe-full",
    "hf_olmo-grouped-rms",
)
