"""`DecoderConfig`: the one description that every model family reduces to."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
NormKind = Literal[
    "rms",  # root mean square; cast to the residual's dtype, then times the weight
    "rms_late_cast",  # root mean square; times the weight in float32, then cast
    "layer",  # mean and variance, weight and bias
    "layer_bare",  # mean and variance, no params
]


@dataclass(frozen=True)
class LinearScaling:
    """Every rotary wavelength stretched by one factor (`rope_type: linear`)."""

    factor: float


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's frequency-dependent stretch of the rotary wavelengths (`rope_type: llama3`)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): slow rotations stretched, fast ones kept, cosine and sine scaled (`rope_type: yarn`)."""

    factor: float
    beta_fast: float
    beta_slow: float
    original_context: int
    attention_factor: float
    truncate: bool = True


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding, halves rotated against each other (RoFormer, arXiv 2104.09864).

    Attributes:
        theta: base of the wavelengths.
        scaling: the stretch of wavelengths for contexts longer than pre-training's.
        dims: leading dimensions of each head that rotate; None for all of them.
    """

    theta: float
    scaling: LinearScaling | Llama3Scaling | YarnScaling | None = None
    dims: int | None = None


@dataclass(frozen=True)
class LayerKind:
    """Settings that may differ from layer to layer.

    Attributes:
        rope: the rotary embedding; None for a layer without positions.
        window: how many slots back a slot sees, itself included; None for all of them.
    """

    rope: Rope | None
    window: int | None = None


@dataclass(frozen=True)
class DecoderConfig:
    """Architecture of a decoder: all that changes the forward, and nothing else. Hashable: a key of compilations.

    Attributes:
        layers: the kind of every layer, from the first to the last.
        norm_after: norms are on the outputs of attention and MLP, h + norm(f(h)), not on their inputs, h + f(norm(h)).
        parallel: attention and MLP both read the block's input, h + attention(norm(h)) + mlp(norm′(h)).
        gated_mlp: the MLP is down(act(gate(x)) · up(x)); otherwise down(act(up(x))).
        qk_norm: norm of queries and keys before rotation: over each head, or over the full width before the split.
        clip_qkv: bound on the magnitude of queries, keys and values.
    """

    vocab_size: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    context: int
    layers: tuple[LayerKind, ...]
    norm_eps: float
    norm: NormKind = "rms"
    norm_after: bool = False
    parallel: bool = False
    activation: Activation = "silu"
    gated_mlp: bool = True
    tied_head: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["head", "width"] | None = None
    clip_qkv: float | None = None

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} key/value heads evenly")
        dims = {layer.rope.dims or self.head_dim for layer in self.layers if layer.rope}
        if len(dims) > 1 or any(n % 2 or not 0 < n <= self.head_dim for n in dims):
            raise ValueError(f"rotary dimensions {sorted(dims)} of {self.head_dim}; one even number is needed")

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def rotary_dims(self) -> int:
        """Leading dimensions of each head that rotate, the same in all layers."""
        return next((layer.rope.dims for layer in self.layers if layer.rope and layer.rope.dims), self.head_dim)

    def truncated(self, depth: int) -> "DecoderConfig":
        """Returns the same model cut above block `depth` − 1, as blocks above the last wanted layer are not needed."""
        return dataclasses.replace(self, layers=self.layers[:depth])
