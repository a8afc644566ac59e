"""`DecoderConfig`: the one description that every model family reduces to."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "xielu"]
NormKind = Literal[
    "rms",  # root mean square; cast to the residual's dtype, then times the weight
    "rms_late_cast",  # root mean square; times the weight in float32, then cast
    "rms_plus_one",  # root mean square; times 1 + weight in float32, then cast
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
        scale: factor of the products of queries and keys; None for head_dim ** −½.
    """

    rope: Rope | None
    window: int | None = None
    scale: float | None = None


@dataclass(frozen=True)
class LearntPositions:
    """A table of position embeddings, added to those of tokens.

    Attributes:
        rows: rows of the table.
        first: row of position 0.
    """

    rows: int
    first: int = 0


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the MLP: each token is sent to the likeliest of them (arXiv 1701.06538).

    Attributes:
        count: number of experts, MLPs of the config's width.
        chosen: number of experts of a token.
        renormalised: the weights of a token's experts are divided by their sum.
    """

    count: int
    chosen: int
    renormalised: bool


@dataclass(frozen=True)
class DecoderConfig:
    """Architecture of a decoder: all that changes the forward, and nothing else. Hashable: a key of compilations.

    Attributes:
        layers: the kind of every layer, from the first to the last.
        norms: place of the norms of attention and MLP: before, h + f(norm(h)); after, h + norm(f(h)); or both.
        parallel: attention and MLP both read the block's input, h + attention(norm(h)) + mlp(norm′(h)).
        one_norm: in a parallel block, norm and norm′ are one.
        gated_mlp: the MLP is down(act(gate(x)) · up(x)); otherwise down(act(up(x))).
        qk_norm: norm of queries and keys before rotation: over each head, or over the full width before the split.
        clip_qkv: bound on the magnitude of queries, keys and values.
        learnt_positions: the table of position embeddings; None without one.
        alibi: attention falls off linearly with distance, by a slope of each head (arXiv 2108.12409).
        embedding_norm: a norm on the embedding.
        embedding_scale, branch_scale, logit_scale: factors of the embedding, of what attention and MLP add to the
            residual, and of logits.
        attention_cap, logit_cap: soft bounds, cap · tanh(x / cap), on the products of queries and keys and on logits.
        experts: the experts of every block; None for one MLP.
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
    norms: Literal["before", "after", "both"] = "before"
    parallel: bool = False
    one_norm: bool = False
    activation: Activation = "silu"
    gated_mlp: bool = True
    tied_head: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["head", "width"] | None = None
    clip_qkv: float | None = None
    learnt_positions: LearntPositions | None = None
    alibi: bool = False
    embedding_norm: bool = False
    embedding_scale: float = 1.0
    branch_scale: float = 1.0
    logit_scale: float = 1.0
    attention_cap: float | None = None
    logit_cap: float | None = None
    experts: Experts | None = None

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
        """Leading dimensions of each head that rotate, the same in all layers; 0 where none has a rotary embedding."""
        return next((layer.rope.dims or self.head_dim for layer in self.layers if layer.rope), 0)

    @property
    def key_dim(self) -> int:
        """Dimensions of a key as it is kept; under ALiBi two more than a head's, which say its position."""
        return self.head_dim + 2 * self.alibi

    def truncated(self, depth: int) -> "DecoderConfig":
        """Returns the same model cut above block `depth` − 1, as blocks above the last wanted layer are not needed."""
        return dataclasses.replace(self, layers=self.layers[:depth])
