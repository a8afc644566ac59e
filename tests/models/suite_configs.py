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
}  # fmt: skip
