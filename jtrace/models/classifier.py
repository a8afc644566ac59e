"""A sequence classifier of RoBERTa's kind (arXiv 1907.11692): texts → probabilities of its labels.

Unlike in a decoder, every token sees the whole text, each norm comes after its sum, and positions are learnt.
Axes: B texts, T tokens, D width, C labels; N texts in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from transformers import PreTrainedTokenizerBase

from jtrace.errors import InputError
from jtrace.kernels.attention import attend
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params
from jtrace.models.layers import BY_FAN_IN, MLP, Linear, Norm, precision_for
from jtrace.runtime.foreign import foreign_rust
from jtrace.runtime.progress import Bar

MOST_TOKENS = 512
# Tokens per forward, padding included: one shape for each padded width, whatever the number of texts.
BATCH_TOKENS = 2048
_NARROWEST = 16


@dataclass(frozen=True)
class ClassifierConfig:
    """Architecture of a classifier. Hashable: a key of compilations.

    Attributes:
        encoder: architecture of the layers; its `context` is the number of learnt positions.
        pad_token: id that fills rows up, and the number of the position before the first.
        token_types: number of token types; texts have the first.
        labels: number of labels.
    """

    encoder: DecoderConfig
    pad_token: int
    token_types: int
    labels: int

    @property
    def longest(self) -> int:
        """The most tokens of a text, special ones included."""
        return min(MOST_TOKENS, self.encoder.context - self.pad_token - 1)


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class Classifier:
    """A loaded classifier (`jtrace.checkpoints.roberta.load_classifier`).

    Attributes:
        params: params of `SequenceClassifier(config)`, in the dtype of the forward.
        folder: the folder it was read from, for messages.
        labels: names of the labels, in the order of the probabilities.
    """

    config: ClassifierConfig
    params: Params
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    labels: tuple[str, ...]


class SelfAttention(nn.Module):
    """Multi-head self-attention without positions of its own."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], visible: Bool[Array, "B T T"]) -> Float[Array, "B T D"]:
        c = self.config
        q, k, v = (
            Linear(c.width, use_bias=True, name=name)(x).reshape(*x.shape[:2], c.heads, c.head_dim) for name in "qkv"
        )
        mixed = attend(q, k, v, visible, precision=precision_for(x.dtype))
        return Linear(c.width, use_bias=True, name="o")(mixed.reshape(x.shape))


class EncoderBlock(nn.Module):
    """One layer, the scan's body: norm(h + f(h)) for attention, then for the MLP."""

    config: DecoderConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], visible: Bool[Array, "B T T"]) -> tuple[Float[Array, "B T D"], None]:
        c = self.config
        attention_norm, mlp_norm = (Norm(c.norm, c.norm_eps, name=name) for name in ("attention_norm", "mlp_norm"))
        x = attention_norm(x + SelfAttention(c, name="attention")(x, visible))
        return mlp_norm(x + MLP(c, name="mlp")(x)), None


class SequenceClassifier(nn.Module):
    """Embeddings, the scanned layers, and a head on the first token; computes in the dtype of its params."""

    config: ClassifierConfig

    @nn.compact
    def __call__(self, tokens: Int[Array, "B T"], lengths: Int[Array, " B"]) -> Float[Array, "B C"]:
        """Computes float32 logits.

        Args:
            tokens: ids, filled up with the pad token.
            lengths: the number of each row's tokens that are not padding.
        """
        c, encoder = self.config, self.config.encoder
        tables = {"tokens": encoder.vocab_size, "positions": encoder.context, "token_types": c.token_types}
        embedding = {name: self.param(name, BY_FAN_IN, (size, encoder.width)) for name, size in tables.items()}
        # A text may spell out the pad token: it is seen like any other but, as in the original, has no position.
        placed = tokens != c.pad_token
        positions = c.pad_token + jnp.cumsum(placed, axis=1) * placed
        x = embedding["tokens"][tokens] + embedding["token_types"][0] + embedding["positions"][positions]
        x = Norm(encoder.norm, encoder.norm_eps, name="embedding_norm")(x)

        real = jnp.arange(tokens.shape[1]) < lengths[:, None]
        visible = jnp.broadcast_to(real[:, None, :], (*tokens.shape, tokens.shape[1]))
        blocks = nn.scan(
            EncoderBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast,),
            length=encoder.depth,
        )(encoder, name="blocks")
        x, _ = blocks(x, visible)
        summary = jnp.tanh(Linear(encoder.width, use_bias=True, name="dense")(x[:, :1]))
        return Linear(c.labels, use_bias=True, name="out")(summary)[:, 0].astype(jnp.float32)


def abstract_params(config: ClassifierConfig) -> Params:
    """Returns the shape of every param (`jax.ShapeDtypeStruct` leaves), without memory or compute."""
    one = jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda key: SequenceClassifier(config).init(key, one, one[0]), jax.random.key(0))
    return shapes["params"]


@partial(jax.jit, static_argnames=("config",))
def logits(
    params: Params, tokens: Int[Array, "B T"], lengths: Int[Array, " B"], *, config: ClassifierConfig
) -> Float[Array, "B C"]:
    """Applies `SequenceClassifier` with its params; float32."""
    return cast(Array, SequenceClassifier(config).apply({"params": params}, tokens, lengths))


def probabilities(classifier: Classifier, texts: Sequence[str], progress: str | None = None) -> np.ndarray:
    """Computes the probability of each label for each text; no text's result depends on the others.

    Args:
        texts: one longer than `config.longest` tokens loses its end, but keeps its special tokens.
        progress: label of a progress bar; none is shown if None.

    Returns:
        float32 [N, C], each row summing to 1.

    Raises:
        InputError: the forward overflows in the params' dtype.
    """
    config = classifier.config
    by_text = np.zeros((len(texts), config.labels), np.float32)
    rows = _encode(classifier, texts)
    widths = np.array([_width(len(row), config.longest) for row in rows], np.int64)
    with Bar(total=len(texts), desc=progress, unit=" texts") as bar:
        for width in np.unique(widths):
            members = np.flatnonzero(widths == width)
            most = max(1, BATCH_TOKENS // int(width))
            for batch in np.split(members, range(most, len(members), most)):
                tokens, lengths = _padded([rows[i] for i in batch], (most, int(width)), config.pad_token)
                of_batch = logits(classifier.params, tokens, lengths, config=config)
                by_text[batch] = jax.nn.softmax(of_batch, axis=-1)[: len(batch)]
                bar.update(len(batch))
    if not np.isfinite(by_text).all():
        dtype = jax.tree.leaves(classifier.params)[0].dtype.name
        raise InputError(f"{classifier.folder}: the classifier's probabilities are NaN as {dtype}; use float32")
    return by_text


def _encode(classifier: Classifier, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    how = {"truncation": True, "max_length": classifier.config.longest, "return_attention_mask": False}
    with foreign_rust(classifier.folder, "the tokeniser cannot tokenise a text"):
        return classifier.tokenizer(list(texts), verbose=False, **how)["input_ids"]


def _width(length: int, longest: int) -> int:
    """Returns the power of two that a text is padded to: few different ones, so that few shapes are compiled."""
    return min(max(_NARROWEST, 1 << (length - 1).bit_length()), longest)


def _padded(rows: Sequence[Sequence[int]], shape: tuple[int, int], pad_token: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens of that shape, and lengths; both int32. Missing rows are empty."""
    tokens, lengths = np.full(shape, pad_token, np.int32), np.zeros(shape[0], np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], lengths[i] = row, len(row)
    return tokens, lengths
