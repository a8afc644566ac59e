"""Sizes of Llama-style decoders to pre-train from nothing, as config.json values."""

from dataclasses import dataclass
from typing import Any

from jtrace.errors import InputError


@dataclass(frozen=True)
class Preset:
    """One model size, with the settings of training that suit it.

    Attributes:
        vocab_size: tokens of a tokeniser trained for it; an existing tokeniser has its own number.
        context: default number of tokens of a training row.
        rows: default number of training rows of a step.
        learning_rate: default peak.
        device_rows, remat: defaults of the settings that save memory; see `jtrace.pretraining.config.PretrainConfig`.
    """

    width: int
    depth: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocab_size: int
    context: int
    rows: int
    learning_rate: float
    tied_head: bool
    device_rows: int
    remat: bool

    def config_json(self, vocab_size: int, context: int, bos: int | None, eos: int | None) -> dict[str, Any]:
        """Returns the config.json that transformers and jtrace read; `bos` and `eos` are token ids."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": vocab_size,
            "hidden_size": self.width,
            "intermediate_size": self.mlp_width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.width // self.heads,
            "max_position_embeddings": context,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": self.tied_head,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "dtype": "float32",
        }


PRESETS = {
    # 1.1 M parameters: minutes on two CPU cores.
    "tiny": Preset(128, 4, 4, 4, 384, 2048, 128, 32, 2e-3, tied_head=True, device_rows=64, remat=False),
    # 3.05 M parameters.
    "small": Preset(192, 6, 6, 6, 512, 2048, 256, 32, 1e-3, tied_head=True, device_rows=64, remat=False),
    # 162 M parameters, Pythia-160M's width, depth and vocabulary.
    "160m": Preset(768, 12, 12, 12, 2048, 50304, 2048, 256, 6e-4, tied_head=False, device_rows=8, remat=True),
    # 1.1 B parameters, the shape of TinyLlama.
    "1b": Preset(2048, 22, 32, 4, 5632, 32000, 2048, 512, 4e-4, tied_head=False, device_rows=4, remat=True),
}


def find_preset(name: str) -> Preset:
    """Looks up a preset by its name.

    Raises:
        InputError: no preset has this name.
    """
    if name not in PRESETS:
        raise InputError(f"--preset={name}: not known; there are {', '.join(PRESETS)}")
    return PRESETS[name]
