"""The decoder: one `nn.scan` of one block over stacked layer params.

For each layer the scan takes in the layer's params, the indices of its rotary table and window, and its edits of the
residual. It gives out what is read of the block at the read slots, and keys and values where they are wanted.
Extraction, scoring, generation and intervention are therefore one pure function, and compile time does not grow with
depth.
Axes: B rows, T slots, R reads per row, L layers, D width, V vocabulary, K key/value heads, H head_dim, P different
position tables and W different windows among the layers; of what is read, W is the width of the site. In generation a
row is a prompt of S slots. Its T slots are the conditions under which it is continued, and each condition generates up
to G tokens. Where a row is extended, its T slots are its newest tokens, and there is room for S slots.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.attention import (
    Keys,
    attend,
    attend_back,
    attend_to_past,
    capped,
    visible_kept,
    visible_past,
    visible_slots,
)
from jtrace.kernels.tree_attention import tree_attend
from jtrace.models.config import DecoderConfig
from jtrace.models.experts import MixtureOfExperts
from jtrace.models.intervention import Edit, Intervention, edited
from jtrace.models.layers import BY_FAN_IN, MLP, Attention, Norm, precision_for
from jtrace.models.reading import RESIDUAL, Read, ReadSlots, Site, paths_of, pooled
from jtrace.models.rotary import Rotation, rotation_at

Params = dict[str, Any]
# The implementation of attention within rows: XLA, cuDNN (bfloat16 only), or `jtrace.kernels.tree_attention`.
AttentionBy = Literal["xla", "cudnn", "pallas"]
# For at most this many slots, XLA on a CPU multiplies two to four times as fast with the head as the first operand.
FEW_SLOTS = 64


class Slots(NamedTuple):
    """Packed rows of prefix trees (`jtrace.inference.packing`); a padding slot sees only itself."""

    tokens: Int[Array, "B T"]
    positions: Int[Array, "B T"]
    ends: Int[Array, "B T"]


class Past(NamedTuple):
    """Keys and values that the newest tokens attend to: those of the prompts and of the tokens generated so far.

    Attributes:
        prompt: keys and values of prompts, each [L, B, S, K, H]; slot s is at position s.
        lengths: tokens of each prompt.
        generated: keys and values of each condition's tokens, each [L, B, T, G, K, H].
        held: how many of the G tokens each condition has so far.
    """

    prompt: Keys
    lengths: Int[Array, " B"]
    generated: Keys
    held: Int[Array, ""]


class Output(NamedTuple):
    """Raw residuals, and keys where they are kept.

    Attributes:
        reads: what was asked for of every block, at the read slots; empty for a step or an extension.
        last: the last block's output at every slot.
        keys: keys and values of every slot, each [L, B, T, K, H].
    """

    reads: dict[Read, Float[Array, "L B R W"]]
    last: Float[Array, "B T D"]
    keys: Keys | None = None


class TableIndex(NamedTuple):
    """Indices of the tables that a layer uses; one entry per layer in the scan's inputs."""

    rotation: Int[Array, " *L"]
    visible: Int[Array, " *L"]


class Tables(NamedTuple):
    """Rotary tables and masks that layers choose from, computed once per forward."""

    rotation: Rotation  # [P, B, T, 1, half] each
    # seen: T T; S+G where the past is attended to; T S where rows are extended. The Pallas kernel needs windows only.
    visible: Bool[Array, "W B *seen"] | Int[Array, " W"]

    def select(self, index: TableIndex) -> tuple[Rotation, Bool[Array, "B *seen"] | Int[Array, ""]]:
        """Returns the rotary tables and the mask of one layer."""
        cos, sin = (jax.lax.dynamic_index_in_dim(table, index.rotation, keepdims=False) for table in self.rotation)
        return (cos, sin), jax.lax.dynamic_index_in_dim(self.visible, index.visible, keepdims=False)


class Layer(NamedTuple):
    """Inputs of the scan for each layer, beside its params."""

    number: Int[Array, " *L"]
    table: TableIndex
    scale: Float[Array, " *L"] | None  # of queries, beside head_dim ** −½
    edit: Edit | None
    prompt: Keys | None


class SharedInputs(NamedTuple):
    """Inputs that all layers share."""

    tables: Tables
    positions: Int[Array, "B T"]
    slots: Slots | None
    read_slots: ReadSlots | None
    condition: Int[Array, "B T"] | None
    held: Int[Array, ""] | None


class Block(nn.Module):
    """Residual block, the scan's body: attention and MLP one after the other or side by side, norms around them."""

    config: DecoderConfig
    keep_keys: bool = False
    attention: AttentionBy = "xla"
    reads: tuple[Read, ...] = (RESIDUAL,)

    @nn.compact
    def __call__(
        self, carried: tuple[Float[Array, "B T D"], Keys | None], layer: Layer, shared: SharedInputs
    ) -> tuple[tuple[Float[Array, "B T D"], Keys | None], tuple[dict[Read, Float[Array, "B R W"]], Keys | None]]:
        c = self.config
        residual, kept = carried
        rotation, visible = shared.tables.select(layer.table)
        precision, cap = precision_for(residual.dtype), c.attention_cap

        def within_rows(q: Array, new: Keys) -> tuple[Array, Keys]:
            if self.attention == "pallas":
                assert shared.slots is not None
                _, positions, ends = shared.slots
                interpret = jax.default_backend() == "cpu"
                return tree_attend(q, new.k, new.v, ends, positions, visible, interpret=interpret, cap=cap), new
            if self.attention == "cudnn":
                if cap is not None or c.alibi:
                    raise ValueError("cuDNN's attention knows neither soft bounds nor ALiBi; use another")
                mask = visible[:, None]
                return jax.nn.dot_product_attention(q, new.k, new.v, mask=mask, implementation="cudnn"), new
            return attend_back(q, new.k, new.v, visible, precision=precision, cap=cap), new

        def with_past(q: Array, new: Keys) -> tuple[Array, Keys]:
            assert layer.prompt is not None
            grown, of_layer = remembered_with(Keys(*(part[:, :, None] for part in new)))
            return attend_to_past(q, layer.prompt, of_layer, visible, precision=precision, cap=cap), grown

        def onto_kept(q: Array, new: Keys) -> tuple[Array, Keys]:
            grown, of_layer = remembered_with(new)
            return attend(q, *of_layer, visible, precision=precision, cap=cap), grown

        def remembered_with(new: Keys) -> tuple[Keys, Keys]:
            """Puts a layer's new keys behind those held, and returns all layers' keys, and this one's."""
            assert kept is not None
            assert shared.held is not None
            grown = Keys(*(_remember(*pair, layer.number, shared.held) for pair in zip(kept, new, strict=True)))
            return grown, Keys(*(jax.lax.dynamic_index_in_dim(part, layer.number, keepdims=False) for part in grown))

        mix = within_rows if kept is None else onto_kept if layer.prompt is None else with_past

        def changed(site: Site, values: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
            if layer.edit is None or shared.condition is None or layer.edit.at.site != site:
                return values
            return edited(values, layer.edit, shared.condition)

        attention = partial(
            Attention(c, name="attention"),
            rotation=rotation,
            scale=layer.scale,
            positions=shared.positions,
            mix=mix,
            change=partial(changed, "heads"),
        )
        mlp = MLP(c, name="mlp") if c.experts is None else MixtureOfExperts(c, name="mlp")
        read = self._norm("attention", before=True)(residual)
        attended, heads, remembered = attention(read)
        attended = changed("attn", self._branch("attention", attended))
        between = residual + attended
        if not (c.parallel and c.one_norm):
            read = self._norm("mlp", before=True)(residual if c.parallel else between)
        added = changed("mlp", self._branch("mlp", mlp(read)))
        residual = changed("resid", between + added)
        sites = {"resid": residual, "attn": attended, "mlp": added, "heads": heads}
        slots = shared.read_slots
        reads = {} if slots is None else {read: pooled(sites[read.site], slots, read.pooling) for read in self.reads}
        return (residual, None if kept is None else remembered), (reads, remembered if self.keep_keys else None)

    def _norm(self, branch: str, before: bool) -> Callable[[Array], Array]:
        """Returns the norm before or after a branch; the identity where there is none."""
        c = self.config
        if c.norms not in ("before" if before else "after", "both"):
            return lambda x: x
        out = "_out" if c.norms == "both" and not before else ""
        return Norm(c.norm, c.norm_eps, name=f"{branch}{out}_norm")

    def _branch(self, branch: str, out: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Returns what a branch adds to the residual."""
        normed, scale = self._norm(branch, before=False)(out), self.config.branch_scale
        return normed if scale == 1 else (normed.astype(jnp.float32) * scale).astype(normed.dtype)


def _remember(
    kept: Float[Array, "L B *T S K H"], new: Float[Array, "B *T N K H"], layer: Int[Array, ""], held: Int[Array, ""]
) -> Float[Array, "L B *T S K H"]:
    """Writes N new slots of a layer behind the slots that it holds."""
    start = [layer, *[jnp.int32(0)] * (kept.ndim - 4), held, jnp.int32(0), jnp.int32(0)]
    return jax.lax.dynamic_update_slice(kept, new[None], start)


# Every form of the scanned blocks, by whether it recomputes and whether it unrolls. Flax changes the fields of a class
# for a moment while it makes another of it, so none is made later: checkpoints are traced in several threads.
BLOCKS = {
    (remat, unroll): nn.scan(
        nn.remat(Block, prevent_cse=False) if remat else Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(0, nn.broadcast),
        unroll=unroll,
    )
    for remat in (False, True)
    for unroll in (False, True)
}


class Decoder(nn.Module):
    """Embedding, the scanned blocks, and the head (which extraction never asks for).

    Attributes:
        remat: compute each block again for its gradient instead of keeping its inner values; for training only.
        unroll: compile the blocks one after another instead of as a loop: a faster step on a CPU, but compile time
            grows with depth.
        keep_keys: give out keys and values of every slot, so that generation can go on from them.
        reads: what is read of every block; nothing else is computed or kept.
        attention: the implementation within rows. "cudnn" is for bfloat16, "pallas" has no gradient, both are for one
            device; use them only where they are measured to be faster than XLA.
    """

    config: DecoderConfig
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    unroll: bool = False
    keep_keys: bool = False
    attention: AttentionBy = "xla"
    reads: tuple[Read, ...] = (RESIDUAL,)

    def setup(self) -> None:
        c = self.config
        self.embedding = self.param("embedding", BY_FAN_IN, (c.vocab_size, c.width), self.dtype)
        self.blocks = BLOCKS[self.remat, self.unroll](c, self.keep_keys, self.attention, self.reads)
        if c.learnt_positions is not None:
            shape = c.learnt_positions.rows, c.width
            self.position_embedding = self.param("position_embedding", BY_FAN_IN, shape, self.dtype)
        if c.embedding_norm:
            self.embedding_norm = Norm(c.norm, c.norm_eps)
        self.final_norm = Norm(c.norm, c.norm_eps)
        if not c.tied_head:
            self.head = self.param("head", BY_FAN_IN, (c.vocab_size, c.width), self.dtype)

    def __call__(
        self,
        slots: Slots,
        reads: Int[Array, "B R"],
        intervention: Intervention | None = None,
        counted: Bool[Array, "B T"] | None = None,
    ) -> Output:
        """Computes what is read of every block.

        Args:
            slots: the packed rows.
            reads: slots of the reads' last tokens; pad with any valid slot.
            counted: slots that hold statements' own tokens, over which reads are pooled; None for all.
            intervention: edits of the blocks' outputs; None compiles to a forward without edits.
        """

        def window_alone(window: int | None) -> Int[Array, ""]:
            return jnp.int32(slots.tokens.shape[1] if window is None else window)

        by_slot = partial(visible_slots, slots.ends, slots.positions)
        visible = window_alone if self.attention == "pallas" else by_slot
        paths = None
        if any(read.pooling != "last" for read in self.reads):
            paths = paths_of(reads, slots.ends, jnp.ones_like(slots.tokens, bool) if counted is None else counted)
        (last, _), (captured, keys) = self._run(
            slots.tokens, slots.positions, visible, intervention, ReadSlots(reads, paths), slots=slots
        )
        return Output(captured, last, keys)

    def step(
        self, tokens: Int[Array, "B T"], past: Past, intervention: Intervention | None = None
    ) -> tuple[Float[Array, "B T D"], Past]:
        """Computes the last block's output for one more token of every condition, and adds that token to the past."""
        visible = partial(visible_past, past.lengths, past.held, (past.prompt.k.shape[2], past.generated.k.shape[3]))
        positions = jnp.broadcast_to((past.lengths + past.held)[:, None], tokens.shape)
        (last, generated), _ = self._run(
            tokens, positions, visible, intervention, None, past.generated, past.held, past.prompt
        )
        return last, past._replace(generated=generated, held=past.held + 1)

    def extend(
        self, tokens: Int[Array, "B T"], kept: Keys, held: Int[Array, ""], intervention: Intervention | None = None
    ) -> tuple[Float[Array, "B T D"], Keys]:
        """Computes the last block's output for the next tokens of every row, and puts their keys behind those held.

        Args:
            tokens: the next tokens; there is room for them.
            kept: keys and values of rows, each [L, B, S, K, H]; slot s is at position s.
            held: how many of the S tokens every row has so far.
        """
        rows, newest = tokens.shape
        sizes = rows, newest, kept.k.shape[2]
        positions = jnp.broadcast_to(held + jnp.arange(newest), tokens.shape)
        (last, kept), _ = self._run(
            tokens, positions, partial(visible_kept, held, sizes), intervention, None, kept, held
        )
        return last, kept

    def _run(
        self,
        tokens: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        visible: Callable[[int | None], Bool[Array, "B *seen"] | Int[Array, ""]],
        intervention: Intervention | None,
        read_slots: ReadSlots | None,
        kept: Keys | None = None,
        held: Int[Array, ""] | None = None,
        prompt: Keys | None = None,
        slots: Slots | None = None,
    ) -> Any:
        """Runs all blocks. Each different rotary embedding and window is computed once; layers say which they use."""
        c = self.config
        ropes = list(dict.fromkeys(layer.rope for layer in c.layers))
        windows = list(dict.fromkeys(layer.window for layer in c.layers))
        cos, sin = zip(*(rotation_at(positions, rope, c.rotary_dims) for rope in ropes), strict=True)
        tables = Tables((jnp.stack(cos), jnp.stack(sin)), jnp.stack([visible(window) for window in windows]))
        table = TableIndex(
            jnp.array([ropes.index(layer.rope) for layer in c.layers]),
            jnp.array([windows.index(layer.window) for layer in c.layers]),
        )
        scales = [1.0 if layer.scale is None else layer.scale * math.sqrt(c.head_dim) for layer in c.layers]
        scale = None if set(scales) == {1.0} else jnp.array(scales, jnp.float32)
        edit, condition = (None, None) if intervention is None else intervention
        layer = Layer(jnp.arange(c.depth), table, scale, edit, prompt)
        shared = SharedInputs(tables, positions, slots, read_slots, condition, held)
        return self.blocks((self._embedded(tokens, positions), kept), layer, shared)

    def _embedded(self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Returns the input of the first block."""
        c, x = self.config, self.embedding[tokens]
        if c.embedding_scale != 1:  # rounded as Gemma's is; Granite's 12 is exact
            x = x * jnp.asarray(c.embedding_scale, x.dtype)
        if c.learnt_positions is not None:
            x = x + self.position_embedding[positions + c.learnt_positions.first]
        return self.embedding_norm(x) if c.embedding_norm else x

    def normed(self, residual: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Returns the head's input: the last block's output after the final norm, times the scale of logits."""
        normed, scale = self.final_norm(residual), self.config.logit_scale
        return normed if scale == 1 else (normed.astype(jnp.float32) * scale).astype(normed.dtype)

    def logits(self, residual: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Computes float32 next-token logits from the last block's output."""
        head, read = self.embedding if self.config.tied_head else self.head, self.normed(residual)
        product = partial(jnp.einsum, precision=precision_for(self.dtype), preferred_element_type=jnp.float32)
        if jax.default_backend() == "cpu" and read.shape[0] * read.shape[1] <= FEW_SLOTS:
            return capped(jnp.moveaxis(product("vd,btd->vbt", head, read), 0, -1), self.config.logit_cap)
        return capped(product("btd,vd->btv", read, head), self.config.logit_cap)

    def hidden(self, slots: Slots) -> Float[Array, "B T D"]:
        """Computes the head's input at every slot."""
        return self.normed(self(slots, jnp.zeros_like(slots.tokens[:, :1])).last)

    def full_forward(self, slots: Slots, reads: Int[Array, "B R"]) -> Float[Array, "B T V"]:
        """Computes logits of every slot by way of every param, so that `init` and shape checks see all."""
        return self.logits(self(slots, reads).last)


def no_keys(config: DecoderConfig, *axes: int, dtype: DTypeLike, device: Any = None) -> Keys:
    """Returns room for keys and values, zeros [L, *axes, K, E] and [L, *axes, K, H], E being the size of a key."""
    shape = config.depth, *axes, config.kv_heads
    return Keys(*(jnp.zeros((*shape, size), dtype, device=device) for size in (config.key_dim, config.head_dim)))


def abstract_params(config: DecoderConfig, dtype: DTypeLike) -> Params:
    """Returns shape and dtype of every param (`jax.ShapeDtypeStruct` leaves) without memory or compute."""
    return jax.tree.map(lambda leaf: leaf, _abstract_params(config, jnp.dtype(dtype)))  # a copy that callers may change


@lru_cache(maxsize=8)  # one checkpoint's reader asks three times, and tracing takes 60 ms
def _abstract_params(config: DecoderConfig, dtype: np.dtype) -> Params:
    one = jnp.zeros((1, 1), jnp.int32)
    decoder = Decoder(config, dtype)
    shapes = jax.eval_shape(
        lambda key: decoder.init(key, Slots(one, one, one + 1), one, method="full_forward"), jax.random.key(0)
    )
    return shapes["params"]
