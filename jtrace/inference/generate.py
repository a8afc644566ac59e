"""Generation under several interventions at once, with a cache of keys and values.

Prompts are packed as prefix trees and computed once for all conditions, which see the same until the first steered
position. Each further token is one step for all prompts of a batch and all their conditions. Axes: L layers, B rows
(prompts), C conditions, S slots of prompts, G new tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

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
from jtrace.models.decoder import Decoder, Output, Params, Past, Slots, no_keys
from jtrace.models.intervention import Edit, Intervention, Positions
from jtrace.runtime.progress import Bar

# Tokens of one decoding step, over all prompts and conditions of a batch.
BATCH_TOKENS = {"cpu": 256, "gpu": 512, "tpu": 512}
# The most bytes of keys and values of a batch.
CACHE_BYTES, MOST_CACHE_BYTES = {"cpu": 2 << 30}, 16 << 30
# Tokens that are decoded between two looks at whether completions have ended otherwise than by a token.
LOOK_EVERY = 16
SLOTS_STEP = 64  # room for prompts is a multiple of this, so that few shapes are compiled


@dataclass(frozen=True)
class Sampling:
    """Settings by which tokens are chosen.

    Attributes:
        max_new_tokens: the most tokens of a completion.
        stop: ids of the tokens that end a completion.
        temperature: 0 takes the most probable token.
        seed: seed of the noise, which depends only on the numbers of prompt and token: all conditions share it.
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
    has_ended: Callable[[np.ndarray], bool] | None = None,
    progress: str | None = None,
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Continues every prompt under every condition.

    Args:
        prompts: token ids, none empty.
        edit: edits of every layer and condition; condition 0 must change nothing. None means condition 0 only.
        numbers: a number for each prompt; its index if None.
        conditions: indices of the wanted conditions; None for all.
        positions: positions that are steered: `last` is the prompt's last and every generated one, as published;
            `all`; or `generated` only.
        batch_tokens: the most tokens of one step; a default for the device if None.
        has_ended: tells of a completion's tokens so far whether more are of no use, as its text holds what ends it; is
            asked every `LOOK_EVERY` tokens.
        progress: label of a progress bar; none is shown if None.

    Yields:
        A prompt's number and its completions, one per wanted condition, int32, ended by a token of `stop`; batch by
        batch, with prompts of similar length together, as soon as each batch is done.

    Raises:
        InputError: a token that the model has no embedding for.
    """
    check_embedded(prompts, config.vocab_size, "a prompt")
    names = range(len(prompts)) if numbers is None else numbers
    wanted = np.arange(1 if edit is None else edit.push.shape[1]) if conditions is None else np.asarray(conditions)
    # Where prompts are steered, each is computed once per condition, and is a row for each.
    trunk_conditions = wanted if positions == "all" else wanted[:1] * 0
    tokens_at_once = batch_tokens or BATCH_TOKENS.get(jax.default_backend(), 512)
    slots = max(map(len, prompts), default=1) * len(trunk_conditions) + sampling.max_new_tokens * len(wanted)
    slot_bytes = config.depth * config.kv_heads * (config.key_dim + config.head_dim) * jnp.dtype(dtype).itemsize
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
            decode = partial(
                _decode,
                params,
                prefill(at, params, edit),
                np.repeat([len(prompts[i]) - 1 for i in padded], len(trunk_conditions)).astype(np.int32),
                by_condition([names[i] for i in padded]).astype(np.int32),
                None if edit is None else Intervention(edit, jnp.asarray(condition)),
                np.bool_(positions != "generated"),
                decoder=Decoder(config, dtype),
                sampling=sampling,
            )
            begun = _begun(
                by_condition([prompts[i][-1] for i in padded]).astype(np.int32),
                by_condition(np.arange(at_once) >= len(batch)),
                config=config,
                dtype=dtype,
                room=sampling.max_new_tokens,
            )
            made = _decoded(decode, begun, sampling, has_ended)
            tokens = [made[first : first + len(wanted)] for first in range(0, len(made), len(wanted))]
            for i, completions in zip(batch, tokens, strict=False):
                yield names[i], [until_stop(completion, sampling.stop) for completion in completions]
            bar.update(len(batch))


class _Prefill:
    """Keys and values of all but the last token of each prompt, batch by batch, in arrays of one shape.

    Args:
        trunks: for every batch, up to `rows` token sequences under conditions; empty ones are left out.
    """

    def __init__(
        self, trunks: Sequence[Sequence[np.ndarray]], rows: int, config: DecoderConfig, dtype: DTypeLike
    ) -> None:
        self._filled = [[at for at, trunk in enumerate(batch) if len(trunk)] for batch in trunks]
        present = [trunk for batch in trunks for trunk in batch if len(trunk)]
        width = cheapest_width(present, config) if present else 1
        self._packed = [
            pack([batch[at] for at in filled], width) for batch, filled in zip(trunks, self._filled, strict=True)
        ]
        most = max((packed.rows for packed in self._packed), default=1)
        self._rows_at_once = max(1, min(most, default_batch_slots() // width))
        room = SLOTS_STEP * math.ceil(max(map(len, present), default=1) / SLOTS_STEP)
        self._config, self._rows, self._room = config, rows, room
        self._decoder, self._dtype = Decoder(config, dtype, keep_keys=True), dtype

    def __call__(self, batch: int, params: Params, edit: Edit | None) -> Keys:
        """Computes keys and values of one batch, each [L, B, S, K, H]."""
        packed, filled = self._packed[batch], np.array(self._filled[batch])
        rows, room = self._rows, self._room
        row_of = packed.row_of[packed.distinct]
        keys = no_keys(self._config, rows, room, dtype=self._dtype)
        for first in range(0, packed.rows, self._rows_at_once):
            last = first + self._rows_at_once
            slots, conditions = padded_rows(packed, slice(first, last), self._rows_at_once)
            members = np.flatnonzero((row_of >= first) & (row_of < last))
            # Rows beyond the last are dropped; slots beyond a prompt's end are never attended to.
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
    """Computes packed rows, and puts keys of the slots `places` of the flattened rows into the rows `which`."""
    output = cast(Output, decoder.apply({"params": params}, slots, slots.tokens[:, :1] * 0, intervention))
    assert output.keys is not None

    def place(into: Array, new: Array) -> Array:
        flat = new.reshape(new.shape[0], -1, *new.shape[3:])
        return into.at[:, which].set(flat[:, places], mode="drop")

    return Keys(*(place(*pair) for pair in zip(keys, output.keys, strict=True)))


class _Decoding(NamedTuple):
    """Completions on their way.

    Attributes:
        step: the number of tokens that each has.
        tokens: the newest token of each, at first the prompt's last.
        generated: keys and values, but those of the newest token.
        done: completions that have ended, or are not wanted.
        completions: tokens; after an end they mean nothing.
    """

    step: Int[Array, ""]
    tokens: Int[Array, "B T"]
    generated: Keys
    done: Bool[Array, "B T"]
    completions: Int[Array, "B T G"]


def _begun(tokens: np.ndarray, done: np.ndarray, config: DecoderConfig, dtype: DTypeLike, room: int) -> _Decoding:
    """Makes completions without tokens, after prompts whose last ones are given."""
    keys = no_keys(config, *tokens.shape, room, dtype=dtype)
    completions = jnp.zeros((*tokens.shape, room), jnp.int32)
    return _Decoding(jnp.int32(0), jnp.asarray(tokens), keys, jnp.asarray(done), completions)


def _decoded(
    decode: Callable[[_Decoding, np.int32], _Decoding],
    state: _Decoding,
    sampling: Sampling,
    has_ended: Callable[[np.ndarray], bool] | None,
) -> list[np.ndarray]:
    """Decodes to the end, and returns completions row by row: behind a token of `stop` their tokens mean nothing.

    They are looked at on the way where they may have ended otherwise, and then are as long as when that was seen.
    """
    most = sampling.max_new_tokens
    lengths = np.full(state.done.shape, most)
    for upto in range(LOOK_EVERY, most + LOOK_EVERY, LOOK_EVERY) if has_ended else [most]:
        state = decode(state, np.int32(min(upto, most)))
        done = np.array(state.done)
        if has_ended is None or upto >= most or done.all():
            break
        tokens = np.asarray(state.completions)
        for place in map(tuple, np.argwhere(~done)):
            if has_ended(tokens[place][:upto]):
                done[place], lengths[place] = True, upto
        state = state._replace(done=jnp.asarray(done))
    tokens = np.asarray(state.completions)
    return [tokens[place][: lengths[place]] for place in np.ndindex(lengths.shape)]


@partial(jax.jit, static_argnames=("decoder", "sampling"), donate_argnames="state")
def _decode(
    params: Params,
    prompt: Keys,
    lengths: Int[Array, " B"],
    numbers: Int[Array, "B T"],
    intervention: Intervention | None,
    steer_first: Bool[Array, ""],
    state: _Decoding,
    upto: Int[Array, ""],
    *,
    decoder: Decoder,
    sampling: Sampling,
) -> _Decoding:
    """Decodes step by step until every completion has ended or has `upto` tokens.

    Args:
        lengths: number of tokens of each prompt without its last one.
        numbers: numbers of the prompts, for the noise.
        steer_first: whether the prompts' last token is steered.
    """
    variables = {"params": params}

    def going(state: _Decoding) -> Array:
        return (state.step < upto) & ~state.done.all()

    def advance(state: _Decoding) -> _Decoding:
        step, tokens, generated, done, completions = state
        past = Past(prompt, lengths, generated, step)
        edit = intervention
        if intervention is not None:
            edit = intervention._replace(condition=jnp.where(steer_first | (step > 0), intervention.condition, 0))
        last, past = cast(tuple[Array, Past], decoder.apply(variables, tokens, past, edit, method="step"))
        logits = cast(Array, decoder.apply(variables, last, method="logits"))
        tokens = chosen(logits, numbers, step, sampling)
        completions = jax.lax.dynamic_update_index_in_dim(completions, tokens, step, axis=2)
        done = done | jnp.isin(tokens, jnp.array(sampling.stop, jnp.int32))
        return _Decoding(step + 1, tokens, past.generated, done, completions)

    return jax.lax.while_loop(going, advance, state)


def chosen(logits: Array, numbers: Array, step: Array, sampling: Sampling) -> Int[Array, "B T"]:
    """Chooses the most probable token, or draws one by adding Gumbel noise to logits / temperature."""
    if sampling.temperature > 0:
        key = jax.random.fold_in(jax.random.key(sampling.seed), step)
        noise = jax.vmap(lambda number: jax.random.gumbel(jax.random.fold_in(key, number), logits.shape[-1:]))
        logits = logits / sampling.temperature + noise(numbers.reshape(-1)).reshape(logits.shape)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def until_stop(tokens: np.ndarray, stop: tuple[int, ...]) -> np.ndarray:
    """Cuts tokens behind the first that ends a completion."""
    ends = np.flatnonzero(np.isin(tokens, stop))
    return tokens[: ends[0] + 1] if len(ends) else tokens
