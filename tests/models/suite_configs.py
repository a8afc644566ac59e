"""The config.json of real suite members (what of it says something of the architecture), and their parameter counts.

Counts are those that the hub's pages or the papers give for the weights, embeddings and head included.
"""

from typing import Any


def pythia(width: int, depth: int, heads: int, vocab_size: int = 50304) -> dict[str, Any]:
    """Pythia and PolyPythias (arXiv 2304.01373, table 1)."""
    return {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "gelu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": 4 * width,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048,
        "num_attention_heads": heads,
        "num_hidden_layers": depth,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.24.0",
        "use_cache": True,
        "use_parallel_residual": True,
        "vocab_size": vocab_size,
    }


def llama_like(model_type: str, vocab: int, width: int, mlp: int, depth: int, heads: int, kv: int, **more: Any) -> dict:
    return {
        "model_type": model_type,
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "hidden_act": "silu",
        "use_cache": True,
        "rope_scaling": None,
    } | more


SWIGLU = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False, "attention_bias": False, "attention_dropout": 0.0}
OLMO = {"attention_bias": False, "attention_dropout": 0.0, "rope_theta": 10000.0, "torch_dtype": "float32"}
OLMO2 = SWIGLU | {"max_position_embeddings": 4096, "rope_theta": 500000, "pad_token_id": 100277}
YARN = {
    "attention_factor": 1.2079441541679836,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "yarn",
}
OLMO3 = SWIGLU | {
    "max_position_embeddings": 65536,
    "rope_theta": 500000,
    "rope_scaling": YARN,
    "sliding_window": 4096,
}
QWEN = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "use_sliding_window": False}

MEMBERS: dict[str, tuple[dict[str, Any], int]] = {
    "LLM360/Amber": (
        llama_like("llama", 32000, 4096, 11008, 32, 32, 32, **SWIGLU, max_position_embeddings=2048, rope_theta=10000.0),
        6_738_415_616,
    ),
    "EleutherAI/pythia-14m": (pythia(128, 6, 4), 14_067_712),
    "EleutherAI/pythia-31m": (pythia(256, 6, 8), 30_494_720),
    "EleutherAI/pythia-70m": (pythia(512, 6, 8), 70_426_624),
    "EleutherAI/pythia-160m": (pythia(768, 12, 12), 162_322_944),
    "EleutherAI/pythia-410m": (pythia(1024, 24, 16), 405_334_016),
    "EleutherAI/pythia-1b": (pythia(2048, 16, 8), 1_011_781_632),
    "EleutherAI/pythia-1.4b": (pythia(2048, 24, 16), 1_414_647_808),
    "EleutherAI/pythia-2.8b": (pythia(2560, 32, 32), 2_775_208_960),
    "EleutherAI/pythia-6.9b": (pythia(4096, 32, 32, 50432), 6_857_302_016),
    "EleutherAI/pythia-12b": (pythia(5120, 36, 40, 50688), 11_846_072_320),
    "allenai/OLMo-1B-hf": (
        llama_like(
            "olmo", 50304, 2048, 8192, 16, 16, 16, **OLMO, max_position_embeddings=2048, tie_word_embeddings=True,
            clip_qkv=None,
        ),
        1_176_764_416,
    ),
    "allenai/OLMo-7B-0424-hf": (
        llama_like(
            "olmo", 50304, 4096, 11008, 32, 32, 32, **OLMO, max_position_embeddings=4096, tie_word_embeddings=False,
            clip_qkv=8.0,
        ),
        6_888_095_744,
    ),
    "allenai/OLMo-2-0425-1B": (llama_like("olmo2", 100352, 2048, 8192, 16, 16, 16, **OLMO2), 1_484_916_736),
    "allenai/OLMo-2-1124-7B": (llama_like("olmo2", 100352, 4096, 11008, 32, 32, 32, **OLMO2), 7_298_617_344),
    "allenai/OLMo-2-1124-13B": (llama_like("olmo2", 100352, 5120, 13824, 40, 40, 40, **OLMO2), 13_716_198_400),
    "allenai/Olmo-3-1025-7B": (llama_like("olmo3", 100278, 4096, 11008, 32, 32, 32, **OLMO3), 7_298_011_136),
    "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints": (
        llama_like(
            "llama", 49152, 576, 1536, 30, 9, 3, **SWIGLU | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True},
            max_position_embeddings=8192, rope_theta=100000, rope_interleaved=False, is_llama_config=True,
        ),
        134_515_008,
    ),
    "HuggingFaceTB/SmolLM2-360M-intermediate-checkpoints": (
        llama_like(
            "llama", 49152, 960, 2560, 32, 15, 5, **SWIGLU | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True},
            max_position_embeddings=8192, rope_theta=100000,
        ),
        361_821_120,
    ),
    "HuggingFaceTB/SmolLM2-1.7B-intermediate-checkpoints": (
        llama_like(
            "llama", 49152, 2048, 8192, 24, 32, 32, **SWIGLU | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True},
            max_position_embeddings=8192, rope_theta=130000,
        ),
        1_711_376_384,
    ),
    "HuggingFaceTB/SmolLM3-3B-checkpoints": (
        llama_like(
            "smollm3", 128256, 2048, 11008, 36, 16, 4, **SWIGLU | {"tie_word_embeddings": True},
            max_position_embeddings=65536, rope_theta=5000000.0, mlp_bias=False, use_sliding_window=False,
            sliding_window=None, no_rope_layer_interval=4, no_rope_layers=[1, 1, 1, 0] * 9, max_window_layers=28,
            layer_types=["full_attention"] * 36, pretraining_tp=2,
        ),
        3_075_098_624,
    ),
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": (
        llama_like(
            "llama", 32000, 2048, 5632, 22, 32, 4, **SWIGLU | {"rms_norm_eps": 1e-5}, max_position_embeddings=2048,
        ),
        1_100_048_384,
    ),
    "Qwen/Qwen2.5-0.5B": (
        llama_like(
            "qwen2", 151936, 896, 4864, 24, 14, 2, **QWEN, tie_word_embeddings=True, sliding_window=32768,
            max_window_layers=24, use_mrope=False,
        ),
        494_032_768,
    ),
    "Qwen/Qwen2-7B": (
        llama_like(
            "qwen2", 152064, 3584, 18944, 28, 28, 4, **QWEN, tie_word_embeddings=False, sliding_window=131072,
            max_window_layers=28,
        ),
        7_615_616_512,
    ),
    "Qwen/Qwen3-0.6B-Base": (
        llama_like(
            "qwen3", 151936, 1024, 3072, 28, 16, 8, **QWEN, tie_word_embeddings=True, head_dim=128,
            attention_bias=False, sliding_window=None, max_window_layers=28,
        ),
        596_049_920,
    ),
    "Qwen/Qwen3-8B-Base": (
        llama_like(
            "qwen3", 151936, 4096, 12288, 36, 32, 8, **QWEN, tie_word_embeddings=False, head_dim=128,
            attention_bias=False, sliding_window=None, max_window_layers=36,
        ),
        8_190_735_360,
    ),
    "mistralai/Mistral-7B-v0.1": (
        llama_like(
            "mistral", 32000, 4096, 14336, 32, 32, 8, max_position_embeddings=32768, rms_norm_eps=1e-5,
            rope_theta=10000.0, sliding_window=4096, tie_word_embeddings=False,
        ),
        7_241_732_096,
    ),
    "stanford-crfm/alias-gpt2-small-x21": (
        {
            "model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1, "embd_pdrop": 0.1,
            "layer_norm_epsilon": 1e-5, "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_inner": None, "n_layer": 12,
            "n_positions": 1024, "reorder_and_upcast_attn": True, "resid_pdrop": 0.1,
            "scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": True, "summary_activation": None,
            "summary_first_dropout": 0.2, "summary_proj_to_labels": True, "summary_type": "cls_index",
            "summary_use_proj": True, "use_cache": False, "vocab_size": 50257,
        },
        124_439_808,
    ),
    "facebook/opt-125m": (
        {
            "model_type": "opt", "_remove_final_layer_norm": False, "activation_dropout": 0.0,
            "activation_function": "relu", "attention_dropout": 0.0, "do_layer_norm_before": True, "dropout": 0.1,
            "ffn_dim": 3072, "hidden_size": 768, "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 2048,
            "num_attention_heads": 12, "num_hidden_layers": 12, "prefix": "</s>", "vocab_size": 50272,
            "word_embed_proj_dim": 768,
        },
        125_239_296,
    ),
    "bigscience/bloom-560m-intermediate": (
        {
            "model_type": "bloom", "apply_residual_connection_post_layernorm": False, "attention_dropout": 0.0,
            "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "hidden_dropout": 0.0,
            "layer_norm_epsilon": 1e-5, "masked_softmax_fusion": True, "n_embed": 1024, "n_head": 16, "n_layer": 24,
            "num_attention_heads": 16, "offset_alibi": 100, "pretraining_tp": 1, "seq_length": 2048,
            "skip_bias_add": True, "skip_bias_add_qkv": False, "slow_but_exact": False, "unk_token_id": 0,
            "vocab_size": 250880,
        },
        559_214_592,
    ),
    "swiss-ai/Apertus-8B-2509": (
        llama_like(
            "apertus", 131072, 4096, 21504, 32, 32, 8, **SWIGLU | {"rms_norm_eps": 1e-5, "hidden_act": "xielu"},
            max_position_embeddings=65536, rope_theta=12000000,
            rope_scaling={
                "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192, "rope_type": "llama3",
            },
        ),
        8_053_338_176 + 64,  # and two constants of xIELU in each layer
    ),
    "google/gemma-2-2b": (
        llama_like(
            "gemma2", 256000, 2304, 9216, 26, 8, 4, attention_bias=False, attention_dropout=0.0,
            attn_logit_softcapping=50.0, cache_implementation="hybrid", final_logit_softcapping=30.0, head_dim=256,
            hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", max_position_embeddings=8192,
            query_pre_attn_scalar=256, rms_norm_eps=1e-6, rope_theta=10000.0, sliding_window=4096,
        ),
        2_614_341_888,
    ),
    "google/gemma-3-1b-pt": (
        llama_like(
            "gemma3_text", 262144, 1152, 6912, 26, 4, 1, attention_bias=False, attention_dropout=0.0,
            attn_logit_softcapping=None, cache_implementation="hybrid", final_logit_softcapping=None, head_dim=256,
            hidden_activation="gelu_pytorch_tanh", max_position_embeddings=32768, query_pre_attn_scalar=256,
            rms_norm_eps=1e-6, rope_local_base_freq=10000, rope_theta=1000000, sliding_window=512,
            sliding_window_pattern=6,
        ),
        999_885_952,
    ),
    "microsoft/Phi-3-mini-4k-instruct": (
        llama_like(
            "phi3", 32064, 3072, 8192, 32, 32, 32, **SWIGLU | {"rms_norm_eps": 1e-5}, embd_pdrop=0.0, resid_pdrop=0.0,
            max_position_embeddings=4096, original_max_position_embeddings=4096, rope_theta=10000.0,
            sliding_window=2047,
        ),
        3_821_079_552,
    ),
    "stabilityai/stablelm-3b-4e1t": (
        llama_like(
            "stablelm", 50304, 2560, 6912, 32, 32, 32, layer_norm_eps=1e-5, max_position_embeddings=4096,
            partial_rotary_factor=0.25, rope_theta=10000, tie_word_embeddings=False, use_qkv_bias=False,
        ),
        2_795_443_200,
    ),
    "ibm-granite/granite-3.0-2b-base": (
        llama_like(
            "granite", 49152, 2048, 8192, 40, 32, 8, **SWIGLU | {"rms_norm_eps": 1e-5, "tie_word_embeddings": True},
            attention_multiplier=0.015625, embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
            max_position_embeddings=4096, mlp_bias=False, rope_theta=10000,
        ),
        2_533_525_504,
    ),
    "allenai/OLMoE-1B-7B-0924": (
        llama_like(
            "olmoe", 50304, 2048, 1024, 16, 16, 16, **SWIGLU | {"rms_norm_eps": 1e-5}, clip_qkv=None,
            max_position_embeddings=4096, norm_topk_prob=False, num_experts=64, num_experts_per_tok=8,
            output_router_logits=False, rope_theta=10000.0, router_aux_loss_coef=0.01,
        ),
        6_919_161_856,
    ),
    "Qwen/Qwen3-30B-A3B-Base": (
        llama_like(
            "qwen3_moe", 151936, 2048, 6144, 48, 32, 4, **QWEN, attention_bias=False, decoder_sparse_step=1,
            head_dim=128, max_window_layers=48, mlp_only_layers=[], moe_intermediate_size=768, norm_topk_prob=True,
            num_experts=128, num_experts_per_tok=8, output_router_logits=False, router_aux_loss_coef=0.001,
            sliding_window=None, tie_word_embeddings=False,
        ),
        30_532_122_624,
    ),
    "allenai/OLMo-1B": (
        {
            "model_type": "hf_olmo", "activation_type": "swiglu", "alibi": False, "alibi_bias_max": 8.0,
            "attention_dropout": 0.0, "attention_layer_norm": False, "attention_layer_norm_with_affine": False,
            "bias_for_layer_norm": False, "block_group_size": 1, "block_type": "sequential", "d_model": 2048,
            "embedding_dropout": 0.0, "embedding_size": 50304, "flash_attention": True, "include_bias": False,
            "init_cutoff_factor": None, "init_device": "cpu", "init_fn": "mitchell", "init_std": 0.02,
            "layer_norm_type": "default", "layer_norm_with_affine": False, "max_sequence_length": 2048,
            "mlp_hidden_size": None, "mlp_ratio": 8, "multi_query_attention": False, "n_heads": 16, "n_layers": 16,
            "precision": "amp_bf16", "residual_dropout": 0.0, "rope": True, "rope_full_precision": True,
            "scale_logits": False, "use_cache": True, "vocab_size": 50280, "weight_tying": True,
        },
        1_176_764_416,
    ),
}  # fmt: skip
