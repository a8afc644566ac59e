"""Generation under several interventions at once, with a cache of keys and values.

Prompts are computed once, packed as prefix trees, however many conditions they are continued under: until the first
steered position all conditions see the same. Each further token is one step for all prompts of a batch and all
conditions of each. Axes: L layers, B rows (prompts), C conditions, S slots of prompts, G new tokens, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Int

from jtrace.data.tokenizer import check_embedded
from jtrace.inference.packing import cheapest_width, pack, under
from jtrace.inference.residuals import default_batch_slots, padded_rows
from jtrace.kernels.attention import Keys
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Output, Params, Past, Slots
from jtrace.models.intervention import Edit, Intervention, Positions
from jtrace.runtime.progress import Bar

# Tokens that one decoding step makes, all prompts and conditions of a batch together.
BATCH_TOKENS = {"cpu": 256, "gpu": 512, "tpu": 512}
# Bytes of keys and values that a batch may take.
CACHE_BYTES, MOST_CACHE_BYTES = {"cpu": 2 << 30}, 16 << 30
SLOTS_STEP = 64  # room for prompts grows by so many slots, so that few shapes are compiled


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: at most.
        stop: ids of the tokens that end a completion.
        temperature: 0 takes the most probable token.
        seed: of the noise, which depends on the prompt's number and the token's alone: all conditions share it.
    """

    max_new_tokens: int
    stop: tuple[int, ...] = ()
    temperature: float = 0.0
    seed: int = 0


def generate(
    params: Params,
    config: DecoderConfig,
    prompts: Sequence[np.ndarray],
    sampling: Sampling,
    edit: Edit | None = None,
    *,
    numbers: Sequence[int] | None = None,
    conditions: Sequence[int] | None = None,
    positions: Positions = "last",
    dtype: DTypeLike = jnp.float32,
    batch_tokens: int | None = None,
    progress: str | None = None,
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Continue every prompt under every condition.

    Args:
        prompts: token ids, none empty.
        edit: of every layer and condition; condition 0 must leave residuals alone. None is that one alone.
        numbers: what each prompt is called; its place if None.
        conditions: which of them are wanted; None for all.
        positions: which positions are steered: `last` the prompt's last one and every generated one, as published;
            `all`; `generated`.
        batch_tokens: how many tokens one step makes at most; a default for the device if None.
        progress: label of a progress bar; none is shown if None.

    Yields:
        A prompt's number and its completions, one per wanted condition, int32, ended by a token of `stop`; batch by
        batch, prompts of like length together, each as soon as it is there.

    Raises:
        InputError: a token that the model has no embedding for.
    """
    check_embedded(prompts, config.vocab_size, "a prompt")
    names = range(len(prompts)) if numbers is None else numbers
    wanted = np.arange(1 if edit is None else edit.push.shape[1]) if conditions is None else np.asarray(conditions)
    # Prompts that are steered themselves are computed once per condition, and each is a row of its own.
    trunk_conditions = wanted if positions == "all" else wanted[:1] * 0
    tokens_at_once = batch_tokens or BATCH_TOKENS.get(jax.default_backend(), 512)
    slots = max(map(len, prompts), default=1) * len(trunk_conditions) + sampling.max_new_tokens * len(wanted)
    slot_bytes = 2 * config.depth * config.kv_heads * config.head_dim * jnp.dtype(dtype).itemsize
    fitting = CACHE_BYTES.get(jax.default_backend(), MOST_CACHE_BYTES) // (slots * slot_bytes)
    at_once = max(1, min(len(prompts), tokens_at_once // len(wanted), fitting))
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i].tobytes()))
    batches = [order[first : first + at_once] for first in range(0, len(order), at_once)]
    rows = at_once * len(trunk_conditions)
    prefill = _Prefill(
        [[under(prompts[i][:-1], int(c)) for i in batch for c in trunk_conditions] for batch in batches],
        rows=rows,
        config=config,
        dtype=dtype,
    )

    def by_condition(of_prompt: Sequence[Any] | np.ndarray) -> np.ndarray:
        return np.repeat(np.asarray(of_prompt), len(wanted)).reshape(rows, -1)

    with Bar(total=len(prompts), desc=progress, unit=" prompts") as bar:
        for at, batch in enumerate(batches):
            padded = [*batch, *[batch[0]] * (at_once - len(batch))]
            condition = np.tile(wanted, at_once).reshape(rows, -1)
            found = _decode(
                params,
                prefill(at, params, edit),
                np.repeat([len(prompts[i]) - 1 for i in padded], len(trunk_conditions)).astype(np.int32),
                by_condition([prompts[i][-1] for i in padded]).astype(np.int32),
                by_condition([names[i] for i in padded]).astype(np.int32),
                by_condition(np.arange(at_once) >= len(batch)),
                None if edit is None else Intervention(edit, jnp.asarray(condition)),
                np.bool_(positions != "generated"),
                decoder=Decoder(config, dtype),
                sampling=sampling,
            )
            tokens = np.asarray(found).reshape(at_once, len(wanted), -1)
            for i, completions in zip(batch, tokens, strict=False):
                yield names[i], [_until_stop(completion, sampling.stop) for completion in completions]
            bar.update(len(batch))


class _Prefill:
    """Keys and values of all but the last token of each prompt, batch by batch, in arrays of one shape.

    Args:
        trunks: of every batch, up to `rows` token sequences under conditions; empty ones are left out.
    """

    def __init__(
        self, trunks: Sequence[Sequence[np.ndarray]], rows: int, config: DecoderConfig, dtype: DTypeLike
    ) -> None:
        self._filled = [[at for at, trunk in enumerate(batch) if len(trunk)] for batch in trunks]
        there = [trunk for batch in trunks for trunk in batch if len(trunk)]
        width = cheapest_width(there, config) if there else 1
        self._packed = [
            pack([batch[at] for at in filled], width) for batch, filled in zip(trunks, self._filled, strict=True)
        ]
        most = max((packed.rows for packed in self._packed), default=1)
        self._rows_at_once = max(1, min(most, default_batch_slots() // width))
        room = SLOTS_STEP * math.ceil(max(map(len, there), default=1) / SLOTS_STEP)
        self._shape = config.depth, rows, room, config.kv_heads, config.head_dim
        self._decoder, self._dtype = Decoder(config, dtype, keep_keys=True), dtype

    def __call__(self, batch: int, params: Params, edit: Edit | None) -> Keys:
        """[L, B, S, K, H] each."""
        packed, filled, (_, rows, room, *_) = self._packed[batch], np.array(self._filled[batch]), self._shape
        row_of = packed.row_of[packed.distinct]
        keys = Keys(jnp.zeros(self._shape, self._dtype), jnp.zeros(self._shape, self._dtype))
        for first in range(0, packed.rows, self._rows_at_once):
            last = first + self._rows_at_once
            slots, conditions = padded_rows(packed, slice(first, last), self._rows_at_once)
            members = np.flatnonzero((row_of >= first) & (row_of < last))
            # Rows beyond the last are dropped; slots beyond a prompt's end are never looked at.
            which, places = np.full(rows, rows, np.int32), np.zeros((rows, room), np.int32)
            which[: len(members)] = filled[members]
            for at, member in enumerate(packed.distinct[members]):
                path = packed.paths[member]
                places[at, : len(path)] = (packed.row_of[member] - first) * packed.width + path
            intervention = None if edit is None else Intervention(edit, conditions)
            keys = _place_keys(params, keys, slots, intervention, which, places, decoder=self._decoder)
        return keys


@partial(jax.jit, static_argnames="decoder", donate_argnames="keys")
def _place_keys(
    params: Params,
    keys: Keys,
    slots: Slots,
    intervention: Intervention | None,
    which: Int[Array, " B"],
    places: Int[Array, "B S"],
    *,
    decoder: Decoder,
) -> Keys:
    """Compute packed rows, and put the keys of the slots in `places` of the flattened rows into rows `which`."""
    output = cast(Output, decoder.apply({"params": params}, slots, slots.tokens[:, :1] * 0, intervention))
    assert output.keys is not None

    def place(into: Array, new: Array) -> Array:
        flat = new.reshape(new.shape[0], -1, *new.shape[3:])
        return into.at[:, which].set(flat[:, places], mode="drop")

    return Keys(*(place(*pair) for pair in zip(keys, output.keys, strict=True)))


@partial(jax.jit, static_argnames=("decoder", "sampling"))
def _decode(
    params: Params,
    prompt: Keys,
    lengths: Int[Array, " B"],
    tokens: Int[Array, "B T"],
    numbers: Int[Array, "B T"],
    done: Bool[Array, "B T"],
    intervention: Intervention | None,
    steer_first: Bool[Array, ""],
    *,
    decoder: Decoder,
    sampling: Sampling,
) -> Int[Array, "B T G"]:
    """Step by step until every completion has ended; what follows an end means nothing.

    Args:
        lengths: of the prompts less their last token.
        tokens: the last token of each prompt.
        numbers: of the prompts, for the noise.
        done: completions that are not wanted.
        steer_first: whether the prompts' last token is steered.
    """
    depth, _, _, kv_heads, head_dim = prompt.k.shape
    variables, room = {"params": params}, (depth, *tokens.shape, sampling.max_new_tokens, kv_heads, head_dim)

    def going(state: tuple[Any, ...]) -> Array:
        step, _, _, done, _ = state
        return (step < sampling.max_new_tokens) & ~done.all()

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        step, tokens, own, done, found = state
        past = Past(prompt, lengths, own, step)
        edit = intervention
        if intervention is not None:
            edit = intervention._replace(condition=jnp.where(steer_first | (step > 0), intervention.condition, 0))
        last, past = cast(tuple[Array, Past], decoder.apply(variables, tokens, past, edit, method="step"))
        logits = cast(Array, decoder.apply(variables, last, method="logits"))
        tokens = _chosen(logits, numbers, step, sampling)
        found = jax.lax.dynamic_update_index_in_dim(found, tokens, step, axis=2)
        return step + 1, tokens, past.own, done | jnp.isin(tokens, jnp.array(sampling.stop, jnp.int32)), found

    own = Keys(jnp.zeros(room, prompt.k.dtype), jnp.zeros(room, prompt.k.dtype))
    found = jnp.zeros((*tokens.shape, sampling.max_new_tokens), jnp.int32)
    return jax.lax.while_loop(going, advance, (jnp.int32(0), tokens, own, done, found))[-1]


def _chosen(logits: Array, numbers: Array, step: Array, sampling: Sampling) -> Int[Array, "B T"]:
    """The most probable token, or one drawn by adding Gumbel noise to logits / temperature."""
    if sampling.temperature > 0:
        key = jax.random.fold_in(jax.random.key(sampling.seed), step)
        noise = jax.vmap(lambda number: jax.random.gumbel(jax.random.fold_in(key, number), logits.shape[-1:]))
        logits = logits / sampling.temperature + noise(numbers.reshape(-1)).reshape(logits.shape)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def _until_stop(tokens: np.ndarray, stop: tuple[int, ...]) -> np.ndarray:
    ends = np.flatnonzero(np.isin(tokens, stop))
    return tokens[: ends[0] + 1] if len(ends) else tokens
