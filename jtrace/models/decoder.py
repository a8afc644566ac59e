"""The decoder: one `nn.scan` of one block over stacked layer params.

What the scan takes in per layer is the layer's params, its kind (which rotary table, which window) and its steering
vector; what it gives out per layer is the residual at the read slots. Extraction and intervention are therefore one
pure function, and compile time does not grow with depth. Axes: B rows, T slots, R reads per row, L layers, D width,
V vocabulary, P different position tables and W different windows among the layers.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.attention import visible_slots
from jtrace.models.config import DecoderConfig
from jtrace.models.layers import BY_FAN_IN, MLP, Attention, Norm, precision_for
from jtrace.models.rotary import Rotation, rotation_at

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


class Kind(NamedTuple):
    """Which of the tables a layer uses; per layer in the scan's inputs."""

    rotation: Int[Array, " *L"]
    visible: Int[Array, " *L"]


class Tables(NamedTuple):
    """What the layers' kinds choose from, computed once per forward."""

    rotation: Rotation  # [P, B, T, 1, half] each
    visible: Bool[Array, "W B T T"]

    def of(self, kind: Kind) -> tuple[Rotation, Bool[Array, "B T T"]]:
        """One layer's."""
        cos, sin = (jax.lax.dynamic_index_in_dim(table, kind.rotation, keepdims=False) for table in self.rotation)
        return (cos, sin), jax.lax.dynamic_index_in_dim(self.visible, kind.visible, keepdims=False)


class Block(nn.Module):
    """Residual block, the scan's body: attention and MLP one after the other or side by side, norms before or after."""

    config: DecoderConfig

    @nn.compact
    def __call__(
        self,
        residual: Float[Array, "B T D"],
        vector: Float[Array, " D"] | None,
        kind: Kind,
        strength: Float[Array, "B T"] | None,
        tables: Tables,
        reads: Int[Array, "B R"],
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B R D"]]:
        c = self.config
        rotation, visible = tables.of(kind)
        attention, mlp = Attention(c, name="attention"), MLP(c, name="mlp")
        attention_norm, mlp_norm = (Norm(c.norm, c.norm_eps, name=name) for name in ("attention_norm", "mlp_norm"))
        if c.norm_after:
            residual = residual + attention_norm(attention(residual, rotation, visible))
            residual = residual + mlp_norm(mlp(residual))
        else:
            attended = residual + attention(attention_norm(residual), rotation, visible)
            residual = attended + mlp(mlp_norm(residual if c.parallel else attended))
        if vector is not None and strength is not None:
            residual = residual + (strength[:, :, None] * vector).astype(residual.dtype)
        return residual, jnp.take_along_axis(residual, reads[:, :, None], axis=1)


class Decoder(nn.Module):
    """Embedding, the scanned blocks, and the head (which extraction never asks for).

    Attributes:
        remat: compute each block again for its gradient instead of keeping what is inside it; for training alone.
        unroll: lay the blocks out one after another: a faster step on a CPU, whose compilation grows with depth.
    """

    config: DecoderConfig
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    unroll: bool = False

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", BY_FAN_IN, (c.vocab_size, c.width), self.dtype)
        self.blocks = nn.scan(
            nn.remat(Block, prevent_cse=False) if self.remat else Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, 0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.depth,
            unroll=c.depth if self.unroll else 1,
        )(c)
        self.final_norm = Norm(c.norm, c.norm_eps)
        if not c.tied_head:
            self.head = self.param("head", BY_FAN_IN, (c.vocab_size, c.width), self.dtype)

    def __call__(self, slots: Slots, reads: Int[Array, "B R"], intervention: Intervention | None = None) -> Output:
        """Residuals of every block.

        Args:
            slots: the packed rows.
            reads: slot indices to capture per row; pad with any valid slot.
            intervention: what to add on the way; None compiles to a forward without it.
        """
        c = self.config
        vector, strength = (None, None) if intervention is None else intervention
        kind, tables = layer_tables(c, slots)
        last, captured = self.blocks(self.embedding[slots.tokens], vector, kind, strength, tables, reads)
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

    def hidden(self, slots: Slots) -> Float[Array, "B T D"]:
        """What the head reads at every slot: the last block's output behind the final norm."""
        return self.final_norm(self(slots, jnp.zeros_like(slots.tokens[:, :1])).last)

    def everything(self, slots: Slots, reads: Int[Array, "B R"]) -> Float[Array, "B T V"]:
        """Residuals and logits in one pass: touches every param, so that `init` and shape checks see them all."""
        return self.logits(self(slots, reads).last)


def layer_tables(config: DecoderConfig, slots: Slots) -> tuple[Kind, Tables]:
    """Each different rotary embedding and window once, and which of them every layer uses."""
    ropes = list(dict.fromkeys(layer.rope for layer in config.layers))
    windows = list(dict.fromkeys(layer.window for layer in config.layers))
    rotations = [rotation_at(slots.positions, rope, config.rotary_dims) for rope in ropes]
    cos, sin = (jnp.stack(tables) for tables in zip(*rotations, strict=True))
    visible = jnp.stack([visible_slots(slots.ends, slots.positions, window) for window in windows])
    kind = Kind(
        jnp.array([ropes.index(layer.rope) for layer in config.layers]),
        jnp.array([windows.index(layer.window) for layer in config.layers]),
    )
    return kind, Tables((cos, sin), visible)


def abstract_params(config: DecoderConfig, dtype: DTypeLike) -> Params:
    """The shape and dtype of every param (`jax.ShapeDtypeStruct` leaves), without memory or compute."""
    one = jnp.zeros((1, 1), jnp.int32)
    decoder = Decoder(config, dtype)
    shapes = jax.eval_shape(
        lambda key: decoder.init(key, Slots(one, one, one + 1), one, method="everything"), jax.random.key(0)
    )
    return shapes["params"]
