"""`DecoderConfig`: the one description that every model family reduces to."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's frequency-dependent stretch of the rotary wavelengths (`rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True)
class LinearScaling:
    """Every rotary wavelength stretched by one factor (`rope_type: linear`)."""

    factor: float


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding on the whole head, halves rotated against each other (RoFormer, arXiv 2104.09864)."""

    theta: float
    scaling: Llama3Scaling | LinearScaling | None = None


@dataclass(frozen=True)
class DecoderConfig:
    """Architecture of a decoder: all that changes the forward and nothing else; hashable, so it keys compilations."""

    vocab_size: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    context: int
    norm_eps: float
    rope: Rope
    activation: Activation = "silu"
    tied_head: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    window: int | None = None

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} key/value heads evenly")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary halves need an even one")

    def truncated(self, depth: int) -> "DecoderConfig":
        """The same model cut above block `depth` − 1: nothing above the last wanted layer need be read or computed."""
        return dataclasses.replace(self, depth=depth)
