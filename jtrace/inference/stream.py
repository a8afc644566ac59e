"""Generation of one answer after another, token by token as it is made, with keys and values kept between answers.

A row is the same prompt under a condition. A prompt is computed in pieces of a few widths, and only from where it
differs from what is kept; then a few tokens are decoded at a time. Widths, and the room for keys, are the only shapes:
tokens, vectors, layers and strengths are data. Axes: L layers, C conditions (rows), T newest tokens, S slots that there
is room for, K key/value heads, H head_dim.
"""

import dataclasses
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
from jtrace.inference.generate import Sampling, chosen, until_stop
from jtrace.kernels.attention import Keys
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Params, no_keys
from jtrace.models.intervention import Edit, Intervention, Positions, steered_from

CHUNK = 4  # tokens that are decoded by one call
WIDTHS = (16, 64, 256)  # tokens of a prompt that are computed by one call
LEAST_ROOM = 512  # slots; room is a power of two


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class _Kept:
    """Keys and values of rows, and what each was computed of.

    Attributes:
        keys: each [L, C, S, K, H].
        tokens: the tokens that are held.
        marks: the condition that each was computed under; 0 where the condition changes nothing.
        edit: that the conditions are of.
    """

    keys: Keys
    tokens: Int[np.ndarray, "C held"]
    marks: Int[np.ndarray, "C held"]
    edit: Edit | None


class TokenStream:
    """A model at work on one conversation after another: what an answer shares with the one before is computed once.

    Args:
        sampling: how tokens are chosen, and the most of an answer.
        positions: positions that are steered, see `jtrace.inference.generate.generate`.
    """

    def __init__(
        self,
        params: Params,
        config: DecoderConfig,
        sampling: Sampling,
        positions: Positions = "last",
        dtype: DTypeLike = jnp.float32,
    ) -> None:
        self._params, self._config, self._sampling, self._positions = params, config, sampling, positions
        self._decoder, self._dtype = Decoder(config, dtype), dtype
        self._kept: _Kept | None = None

    def answer(
        self,
        prompt: np.ndarray,
        edit: Edit | None = None,
        conditions: Sequence[int] = (0,),
        *,
        number: int = 0,
        most: int | None = None,
    ) -> Iterator[list[np.ndarray]]:
        """Continues a prompt under several conditions at once, with the tokens of `generate`.

        Args:
            prompt: token ids, one at least.
            edit: edits of every layer and condition; None where nothing is ever steered.
            conditions: indices of the wanted conditions.
            number: the prompt's number, for the noise of sampling.
            most: the most tokens, if fewer than those of `sampling`.

        Yields:
            The new tokens of each condition, int32, which may be none: the prompt's pieces are such steps too, so that
            whoever reads can stop at any time. A completion ends with a token of `stop`.

        Raises:
            InputError: a token that the model has no embedding for.
        """
        check_embedded([prompt], self._config.vocab_size, "a prompt")
        limit = self._sampling.max_new_tokens if most is None else min(most, self._sampling.max_new_tokens)
        before, first_steered = prompt[:-1].astype(np.int32), steered_from(len(prompt), self._positions)
        condition, marks = np.asarray(conditions, np.int32), _marks(edit, conditions)
        steered = np.arange(len(before)) >= first_steered
        kept = self._begun(before, steered * marks[:, None], edit, len(prompt) + limit)
        nothing = [np.zeros(0, np.int32) for _ in conditions]

        def steering(slots: np.ndarray) -> Intervention | None:
            return None if edit is None else Intervention(edit, jnp.asarray(condition[:, None] * slots, jnp.int32))

        while (held := kept.tokens.shape[1]) < len(before):
            width = _width(len(before) - held)
            # At the end of the room, some tokens are computed again.
            start = min(held, kept.keys.k.shape[2] - width)
            piece = slice(start, start + width)
            padding = (0, width - len(before[piece]))
            tokens = np.tile(np.pad(before[piece], padding), (len(conditions), 1))
            intervention = steering(np.pad(steered[piece], padding))
            self._kept = None  # its keys are given away
            keys = _extend(self._params, kept.keys, np.int32(start), tokens, intervention, decoder=self._decoder)
            # Keys of padding are written over later, and are not seen until then.
            upto = np.tile(before[: piece.stop], (len(conditions), 1))
            self._kept = kept = _Kept(keys, upto, marks[:, None] * steered[: piece.stop], edit)
            yield nothing

        made = np.zeros((len(conditions), 0), np.int32)
        done, newest = np.zeros(len(conditions), bool), np.repeat(prompt[-1:].astype(np.int32), len(conditions))
        every = steering(np.ones(1, bool))
        while made.shape[1] < limit and not done.all():
            step = made.shape[1]
            self._kept = None
            keys, tokens_made, stop = _decode(
                self._params,
                kept.keys,
                np.int32(len(before)),
                np.int32(step),
                np.int32(min(step + CHUNK, limit)),
                newest,
                np.int32(number),
                done,
                every,
                np.bool_(self._positions != "generated"),
                decoder=self._decoder,
                sampling=self._sampling,
            )
            new = np.asarray(tokens_made)[:, : int(stop) - step]
            made, newest = np.concatenate([made, new], axis=1), new[:, -1]
            computed = np.concatenate([np.tile(prompt.astype(np.int32), (len(conditions), 1)), made[:, :-1]], axis=1)
            under = marks[:, None] * (np.arange(computed.shape[1]) >= first_steered)
            self._kept = kept = _Kept(keys, computed, under, edit)
            pieces = [
                new[row, :0] if done[row] else until_stop(new[row], self._sampling.stop) for row in range(len(new))
            ]
            done = done | np.isin(new, self._sampling.stop).any(axis=1)
            yield pieces

    def _begun(
        self, tokens: Int[np.ndarray, " n"], marks: Int[np.ndarray, "C n"], edit: Edit | None, room: int
    ) -> _Kept:
        """Returns what of the kept keys serves these tokens under these marks, with room for so many slots or more."""
        kept, rows = self._kept, len(marks)
        if kept is None:
            # Where the results will be; otherwise the second call would compile again.
            device = self._params["embedding"].sharding
            nothing = no_keys(self._config, rows, 0, dtype=self._dtype, device=device)
            kept = _Kept(nothing, np.zeros((rows, 0), np.int32), np.zeros((rows, 0), np.int32), edit)
        if not _same(kept.edit, edit):
            kept = dataclasses.replace(kept, marks=np.where(kept.marks > 0, -1, 0))
        source, shared = _shared(kept, tokens, marks)
        slots = max(LEAST_ROOM, 1 << (room - 1).bit_length(), kept.keys.k.shape[2])
        keys = kept.keys
        if slots > keys.k.shape[2] or source.tolist() != list(range(keys.k.shape[1])):
            keys = _rearranged(keys, source, room=slots)
        self._kept = _Kept(keys, np.tile(tokens[:shared], (rows, 1)), marks[:, :shared], edit)
        return self._kept


def _marks(edit: Edit | None, conditions: Sequence[int]) -> Int[np.ndarray, " C"]:
    """Returns the conditions, with 0 for those that change nothing."""
    if edit is None:
        return np.zeros(len(conditions), np.int32)
    acts = sum(np.abs(np.asarray(part)).sum(axis=0) for part in (edit.push, edit.shrink, edit.keep_norm)) != 0
    return np.where(acts, np.arange(len(acts)), 0)[list(conditions)].astype(np.int32)


def _same(one: Edit | None, other: Edit | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.at == other.at and all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def _shared(
    kept: _Kept, tokens: Int[np.ndarray, " n"], marks: Int[np.ndarray, "C n"]
) -> tuple[Int[np.ndarray, " C"], int]:
    """Returns the kept row that each row can begin with, and how many slots all of them then share with theirs."""
    most = min(kept.tokens.shape[1], len(tokens))
    same = (kept.tokens[:, None, :most] == tokens[:most]) & (kept.marks[:, None, :most] == marks[:, :most])
    lengths = np.where(same.all(axis=2), most, same.argmin(axis=2) if most else 0)
    return lengths.argmax(axis=0).astype(np.int32), int(lengths.max(axis=0).min())


def _width(tokens: int) -> int:
    """Returns the tokens of the next piece of so many: the least width that takes all, or the largest."""
    return next((width for width in WIDTHS if width >= tokens), WIDTHS[-1])


@partial(jax.jit, static_argnames="room")
def _rearranged(keys: Keys, rows: Int[Array, " C"], *, room: int) -> Keys:
    """Takes rows of keys, and makes room for more slots."""
    more = room - keys.k.shape[2]
    return Keys(*(jnp.pad(part[:, rows], ((0, 0), (0, 0), (0, more), (0, 0), (0, 0))) for part in keys))


@partial(jax.jit, static_argnames="decoder", donate_argnames="keys")
def _extend(
    params: Params,
    keys: Keys,
    held: Int[Array, ""],
    tokens: Int[Array, "C T"],
    intervention: Intervention | None,
    *,
    decoder: Decoder,
) -> Keys:
    """Computes keys of tokens behind those that are held."""
    _, keys = cast(
        tuple[Array, Keys], decoder.apply({"params": params}, tokens, keys, held, intervention, method="extend")
    )
    return keys


@partial(jax.jit, static_argnames=("decoder", "sampling"), donate_argnames="keys")
def _decode(
    params: Params,
    keys: Keys,
    length: Int[Array, ""],
    step: Int[Array, ""],
    last: Int[Array, ""],
    newest: Int[Array, " C"],
    number: Int[Array, ""],
    done: Bool[Array, " C"],
    intervention: Intervention | None,
    steer_first: Bool[Array, ""],
    *,
    decoder: Decoder,
    sampling: Sampling,
) -> tuple[Keys, Int[Array, "C G"], Int[Array, ""]]:
    """Decodes the tokens of some steps, until every completion has ended.

    Args:
        length: tokens of the prompt without its last one.
        step, last: the first step, and the one to stop before, `CHUNK` later at most.
        newest: the last token of each row, whose keys are not held yet.
        done: completions that have ended.
        steer_first: whether the prompt's last token is steered.

    Returns:
        The keys, the tokens of these steps, and the step that was stopped before.
    """
    variables, first, rows = {"params": params}, step, newest.shape[0]

    def going(state: tuple[Any, ...]) -> Array:
        step, _, _, done, _ = state
        return (step < last) & ~done.all()

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        step, newest, keys, done, made = state
        edit = intervention
        if intervention is not None:
            edit = intervention._replace(condition=jnp.where(steer_first | (step > 0), intervention.condition, 0))
        residual, keys = cast(
            tuple[Array, Keys],
            decoder.apply(variables, newest[:, None], keys, length + step, edit, method="extend"),
        )
        logits = cast(Array, decoder.apply(variables, residual, method="logits"))
        newest = chosen(logits, jnp.broadcast_to(number, (rows, 1)), step, sampling)[:, 0]
        made = jax.lax.dynamic_update_index_in_dim(made, newest, step - first, axis=1)
        done = done | jnp.isin(newest, jnp.array(sampling.stop, jnp.int32))
        return step + 1, newest, keys, done, made

    state = (step, newest, keys, done, jnp.zeros((rows, CHUNK), jnp.int32))
    step, _, keys, _, made = jax.lax.while_loop(going, advance, state)
    return keys, made, step
