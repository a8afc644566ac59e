"""The decoder: one `nn.scan` of one block over stacked layer params.

What the scan takes in per layer is the layer's params and its steering vector; what it gives out per layer is the
residual at the read slots. Extraction and intervention are therefore one pure function, and compile time does not
grow with depth. Axes: B rows, T slots, R reads per row, L layers, D width, V vocabulary.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from jtrace.kernels.attention import visible_slots
from jtrace.models.config import DecoderConfig
from jtrace.models.layers import Attention, GatedMLP, RMSNorm, Rotation, precision_for, rotation_at

Params = dict[str, Any]


class Slots(NamedTuple):
    """Packed rows of prefix trees (`jtrace.data.packing`); a padding slot sees only itself."""

    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    ends: Int[Array, "B T"]


class Intervention(NamedTuple):
    """strength[b, t] · vector[l] is added to the output of block l at slot t of row b.

    A strength of 0 leaves a slot as it is and a vector of 0 a layer: layers, positions and strengths are all data,
    so that nothing recompiles between them.
    """

    vector: Float[Array, "L D"]
    strength: Float[Array, "B T"]


class Output(NamedTuple):
    """Raw residuals: `reads[l]` is the output of block l at the read slots, `last` the last block's at every slot."""

    reads: Float[Array, "L B R D"]
    last: Float[Array, "B T D"]


class Block(nn.Module):
    """Pre-norm residual block, h + attention(norm(h)), then + mlp(norm(·)); the scan's body."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        residual: Float[Array, "B T D"],
        vector: Float[Array, " D"] | None,
        strength: Float[Array, "B T"] | None,
        rotation: Rotation,
        visible: Array,
        reads: Int[Array, "B R"],
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B R D"]]:
        c = self.config
        normed = RMSNorm(c.norm_eps, name="attention_norm")(residual)
        residual = residual + Attention(c, name="attention")(normed, rotation, visible)
        residual = residual + GatedMLP(c, name="mlp")(RMSNorm(c.norm_eps, name="mlp_norm")(residual))
        if vector is not None and strength is not None:
            residual = residual + (strength[:, :, None] * vector).astype(residual.dtype)
        return residual, jnp.take_along_axis(residual, reads[:, :, None], axis=1)


class Decoder(nn.Module):
    """Embedding, the scanned blocks, and the head (which extraction never asks for)."""

    config: DecoderConfig
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", nn.initializers.normal(0.02), (c.vocab_size, c.width), self.dtype)
        self.blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.depth,
        )(c)
        self.final_norm = RMSNorm(c.norm_eps)
        if not c.tied_head:
            self.head = self.param("head", nn.initializers.normal(0.02), (c.vocab_size, c.width), self.dtype)

    def __call__(self, slots: Slots, reads: Int[Array, "B R"], intervention: Intervention | None = None) -> Output:
        """Residuals of every block.

        Args:
            slots: the packed rows.
            reads: slot indices to capture per row; pad with any valid slot.
            intervention: what to add on the way; None compiles to a forward without it.
        """
        c = self.config
        vector, strength = (None, None) if intervention is None else intervention
        rotation = rotation_at(slots.positions, c.rope, c.head_dim)
        visible = visible_slots(slots.ends, slots.positions, c.window)
        embedded = self.embedding[slots.tokens]
        last, captured = self.blocks(embedded, vector, strength, rotation, visible, reads)
        return Output(captured, last)

    def logits(self, residual: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Next-token logits in float32 from the last block's output."""
        head = self.embedding if self.config.tied_head else self.head
        return jnp.einsum(
            "btd,vd->btv",
            self.final_norm(residual),
            head,
            precision=precision_for(self.dtype),
            preferred_element_type=jnp.float32,
        )

    def everything(self, slots: Slots, reads: Int[Array, "B R"]) -> Float[Array, "B T V"]:
        """Residuals and logits in one pass: touches every param, so that `init` and shape checks see them all."""
        return self.logits(self(slots, reads).last)


def abstract_params(config: DecoderConfig, dtype: DTypeLike) -> Params:
    """The shape and dtype of every param (`jax.ShapeDtypeStruct` leaves), without memory or compute."""
    one = jnp.zeros((1, 1), jnp.int32)
    decoder = Decoder(config, dtype)
    shapes = jax.eval_shape(
        lambda key: decoder.init(key, Slots(one, one, one + 1), one, method="everything"), jax.random.key(0)
    )
    return shapes["params"]
