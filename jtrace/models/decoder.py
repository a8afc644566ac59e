"""The decoder: one `nn.scan` of one block over stacked layer params.

What the scan takes in per layer is the layer's params, its kind (which rotary table, which window) and its edits of the
residual; what it gives out per layer is the residual at the read slots, and keys and values where they are wanted.
Extraction, scoring, generation and intervention are therefore one pure function, and compile time does not grow with
depth. Axes: B rows, T slots, R reads per row, L layers, D width, V vocabulary, K key/value heads, H head_dim, P
different position tables and W different windows among the layers. In generation a row is a prompt of S slots, and its
T slots are the conditions it is continued under, each with G slots of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.attention import Keys, attend_back, attend_to_past, visible_past, visible_slots
from jtrace.kernels.tree_attention import tree_attend
from jtrace.models.config import DecoderConfig
from jtrace.models.intervention import Edit, Intervention, edited
from jtrace.models.layers import BY_FAN_IN, MLP, Attention, Norm, precision_for
from jtrace.models.rotary import Rotation, rotation_at

Params = dict[str, Any]
# What works out attention within rows: XLA, cuDNN (bfloat16 alone), or the kernel of `jtrace.kernels.tree_attention`.
AttentionBy = Literal["xla", "cudnn", "pallas"]
# Up to so many, XLA on a CPU multiplies two to four times as fast with the tall head as the first operand (measured).
FEW_SLOTS = 64


class Slots(NamedTuple):
    """Packed rows of prefix trees (`jtrace.inference.packing`); a padding slot sees only itself."""

    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    ends: Int[Array, "B T"]


class Past(NamedTuple):
    """What the newest tokens attend to: the prompts, and the tokens that each condition has had since.

    Attributes:
        prompt: [L, B, S, K, H] each, slot s at position s.
        lengths: of the prompts.
        own: [L, B, T, G, K, H] each.
        held: how many of the G tokens each condition has had so far.
    """

    prompt: Keys
    lengths: Int[Array, " B"]
    own: Keys
    held: Int[Array, ""]


class Output(NamedTuple):
    """Raw residuals, and keys where they are kept.

    Attributes:
        reads: the output of every block at the read slots.
        last: the last block's output at every slot.
        keys: [L, B, T, K, H] each.
    """

    reads: Float[Array, "L B R D"]
    last: Float[Array, "B T D"]
    keys: Keys | None = None


class LayerKind(NamedTuple):
    """Which of the tables a layer uses; per layer in the scan's inputs."""

    rotation: Int[Array, " *L"]
    visible: Int[Array, " *L"]


class Tables(NamedTuple):
    """What the layers' kinds choose from, computed once per forward."""

    rotation: Rotation  # [P, B, T, 1, half] each
    # seen: T T, or S+G where the past is attended to. A kernel that asks the slots needs the window alone.
    visible: Bool[Array, "W B *seen"] | Int[Array, " W"]

    def of(self, kind: LayerKind) -> tuple[Rotation, Bool[Array, "B *seen"] | Int[Array, ""]]:
        """One layer's."""
        cos, sin = (jax.lax.dynamic_index_in_dim(table, kind.rotation, keepdims=False) for table in self.rotation)
        return (cos, sin), jax.lax.dynamic_index_in_dim(self.visible, kind.visible, keepdims=False)


class Layer(NamedTuple):
    """What the scan takes in per layer beside params."""

    number: Int[Array, " *L"]
    kind: LayerKind
    edit: Edit | None
    prompt: Keys | None


class SharedInputs(NamedTuple):
    """What all layers use."""

    tables: Tables
    slots: Slots | None
    reads: Int[Array, "B R"] | None
    condition: Int[Array, "B T"] | None
    held: Int[Array, ""] | None


class Block(nn.Module):
    """Residual block, the scan's body: attention and MLP one after the other or side by side, norms before or after."""

    config: DecoderConfig
    keep_keys: bool = False
    attention: AttentionBy = "xla"

    @nn.compact
    def __call__(
        self, carried: tuple[Float[Array, "B T D"], Keys | None], layer: Layer, shared: SharedInputs
    ) -> tuple[tuple[Float[Array, "B T D"], Keys | None], tuple[Float[Array, "B R D"] | None, Keys | None]]:
        c = self.config
        residual, own = carried
        rotation, visible = shared.tables.of(layer.kind)
        precision = precision_for(residual.dtype)

        def within_rows(q: Array, new: Keys) -> tuple[Array, Keys]:
            if self.attention == "pallas":
                assert shared.slots is not None
                _, positions, ends = shared.slots
                interpret = jax.default_backend() == "cpu"
                return tree_attend(q, new.k, new.v, ends, positions, visible, interpret=interpret), new
            if self.attention == "cudnn":
                mask = visible[:, None]
                return jax.nn.dot_product_attention(q, new.k, new.v, mask=mask, implementation="cudnn"), new
            return attend_back(q, new.k, new.v, visible, precision=precision), new

        def with_past(q: Array, new: Keys) -> tuple[Array, Keys]:
            assert own is not None
            assert layer.prompt is not None
            assert shared.held is not None
            grown = Keys(*(_remember(*pair, layer.number, shared.held) for pair in zip(own, new, strict=True)))
            of_layer = Keys(*(jax.lax.dynamic_index_in_dim(part, layer.number, keepdims=False) for part in grown))
            return attend_to_past(q, layer.prompt, of_layer, visible, precision=precision), grown

        mix = within_rows if own is None else with_past
        attention = partial(Attention(c, name="attention"), rotation=rotation, mix=mix)
        mlp = MLP(c, name="mlp")
        attention_norm, mlp_norm = (Norm(c.norm, c.norm_eps, name=name) for name in ("attention_norm", "mlp_norm"))
        if c.norm_after:
            attended, remembered = attention(residual)
            residual = residual + attention_norm(attended)
            residual = residual + mlp_norm(mlp(residual))
        else:
            attended, remembered = attention(attention_norm(residual))
            attended = residual + attended
            residual = attended + mlp(mlp_norm(residual if c.parallel else attended))
        if layer.edit is not None and shared.condition is not None:
            residual = edited(residual, layer.edit, shared.condition)
        reads = None if shared.reads is None else jnp.take_along_axis(residual, shared.reads[:, :, None], axis=1)
        return (residual, None if own is None else remembered), (reads, remembered if self.keep_keys else None)


def _remember(
    own: Float[Array, "L B T G K H"], new: Float[Array, "B T K H"], layer: Int[Array, ""], held: Int[Array, ""]
) -> Float[Array, "L B T G K H"]:
    return jax.lax.dynamic_update_slice(own, new[None, :, :, None], (layer, 0, 0, held, 0, 0))


class Decoder(nn.Module):
    """Embedding, the scanned blocks, and the head (which extraction never asks for).

    Attributes:
        remat: compute each block again for its gradient instead of keeping what is inside it; for training alone.
        unroll: lay the blocks out one after another: a faster step on a CPU, whose compilation grows with depth.
        keep_keys: give out keys and values of every slot, to be generated from.
        attention: what works it out within rows, used only where measured faster than XLA: "cudnn" is for bfloat16,
            "pallas" has no gradient, and both are for one device.
    """

    config: DecoderConfig
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    unroll: bool = False
    keep_keys: bool = False
    attention: AttentionBy = "xla"

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", BY_FAN_IN, (c.vocab_size, c.width), self.dtype)
        self.blocks = nn.scan(
            nn.remat(Block, prevent_cse=False) if self.remat else Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=c.depth,
            unroll=c.depth if self.unroll else 1,
        )(c, self.keep_keys, self.attention)
        self.final_norm = Norm(c.norm, c.norm_eps)
        if not c.tied_head:
            self.head = self.param("head", BY_FAN_IN, (c.vocab_size, c.width), self.dtype)

    def __call__(self, slots: Slots, reads: Int[Array, "B R"], intervention: Intervention | None = None) -> Output:
        """Residuals of every block.

        Args:
            slots: the packed rows.
            reads: slot indices to capture per row; pad with any valid slot.
            intervention: what to change on the way; None compiles to a forward without it.
        """

        def window_alone(window: int | None) -> Int[Array, ""]:
            return jnp.int32(slots.tokens.shape[1] if window is None else window)

        by_slot = partial(visible_slots, slots.ends, slots.positions)
        visible = window_alone if self.attention == "pallas" else by_slot
        (last, _), (captured, keys) = self._run(
            slots.tokens, slots.positions, visible, intervention, reads, slots=slots
        )
        return Output(captured, last, keys)

    def step(
        self, tokens: Int[Array, "B T"], past: Past, intervention: Intervention | None = None
    ) -> tuple[Float[Array, "B T D"], Past]:
        """The last block's output for one more token of every condition, and the past with it."""
        visible = partial(visible_past, past.lengths, past.held, (past.prompt.k.shape[2], past.own.k.shape[3]))
        positions = jnp.broadcast_to((past.lengths + past.held)[:, None], tokens.shape)
        (last, own), _ = self._run(tokens, positions, visible, intervention, None, past)
        return last, past._replace(own=own, held=past.held + 1)

    def _run(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        visible: Callable[[int | None], Bool[Array, "B *seen"] | Int[Array, ""]],
        intervention: Intervention | None,
        reads: Int[Array, "B R"] | None,
        past: Past | None = None,
        slots: Slots | None = None,
    ) -> Any:
        """All blocks; each different rotary embedding and window is worked out once, and layers say which they use."""
        c = self.config
        ropes = list(dict.fromkeys(layer.rope for layer in c.layers))
        windows = list(dict.fromkeys(layer.window for layer in c.layers))
        cos, sin = zip(*(rotation_at(positions, rope, c.rotary_dims) for rope in ropes), strict=True)
        tables = Tables((jnp.stack(cos), jnp.stack(sin)), jnp.stack([visible(window) for window in windows]))
        kind = LayerKind(
            jnp.array([ropes.index(layer.rope) for layer in c.layers]),
            jnp.array([windows.index(layer.window) for layer in c.layers]),
        )
        edit, condition = (None, None) if intervention is None else intervention
        prompt, own, held = (None, None, None) if past is None else (past.prompt, past.own, past.held)
        layer = Layer(jnp.arange(c.depth), kind, edit, prompt)
        return self.blocks((self.embedding[tokens], own), layer, SharedInputs(tables, slots, reads, condition, held))

    def normed(self, residual: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """What the head reads, from the last block's output."""
        return self.final_norm(residual)

    def logits(self, residual: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Next-token logits in float32 from the last block's output."""
        head, read = self.embedding if self.config.tied_head else self.head, self.final_norm(residual)
        product = partial(jnp.einsum, precision=precision_for(self.dtype), preferred_element_type=jnp.float32)
        if jax.default_backend() == "cpu" and read.shape[0] * read.shape[1] <= FEW_SLOTS:
            return jnp.moveaxis(product("vd,btd->vbt", head, read), 0, -1)
        return product("btd,vd->btv", read, head)

    def hidden(self, slots: Slots) -> Float[Array, "B T D"]:
        """What the head reads at every slot: the last block's output behind the final norm."""
        return self.final_norm(self(slots, jnp.zeros_like(slots.tokens[:, :1])).last)

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
