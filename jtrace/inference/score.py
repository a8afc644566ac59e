"""Log-likelihoods of continuations under several interventions at once, by packed prefix trees.

Continuations share their context, contexts share their common beginning, and conditions share all slots before the
first steered one. Each is a branch of the same tree, so that a further strength or choice costs only the slots of its
branch. Axes: N pairs, C conditions, B rows, T slots, D width, V vocabulary, R slots that predict,
M tokens that are predicted.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.data.tokenizer import check_embedded
from jtrace.inference.packing import Packed, cheapest_width, pack, under
from jtrace.inference.residuals import default_batch_slots, padded_rows
from jtrace.kernels.attention import capped
from jtrace.kernels.cross_entropy import log_normalisers, log_normalisers_and_likeliest
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Output, Params, Slots
from jtrace.models.intervention import Edit, Intervention, Positions, steered_from
from jtrace.models.layers import precision_for
from jtrace.runtime.progress import Bar

Pair = tuple[np.ndarray, np.ndarray]
# Sequences packed at a time: enough to share prefixes, few enough for the host.
SEQUENCES_AT_ONCE = 8192
# The most slots whose logits are in memory at a time.
LOGITS_AT_ONCE = {"cpu": 256}
MOST_LOGITS_AT_ONCE = 2048


def score(
    params: Params,
    config: DecoderConfig,
    pairs: Sequence[Pair],
    edit: Edit | None = None,
    *,
    conditions: Sequence[int] | None = None,
    positions: Positions = "last",
    dtype: DTypeLike = jnp.float32,
    progress: str | None = None,
) -> Float[np.ndarray, "C N"]:
    """Sums each continuation's log-probability after its context over its tokens, in nats, under every condition.

    Args:
        pairs: token ids of contexts and continuations, neither empty.
        edit: edits of every layer and condition; condition 0 must change nothing. None means condition 0 only.
        conditions: indices of the C wanted conditions; None for all.
        positions: positions that are steered, see `steered_from`.
        dtype: dtype of the forward; logits are float32 and sums float64.
        progress: label of a progress bar; none is shown if None.

    Raises:
        InputError: a token that the model has no embedding for.
    """
    return _scores(params, config, pairs, edit, conditions, positions, dtype, progress, compare=False).sums


class Scores(NamedTuple):
    """Scores of continuations.

    Attributes:
        sums: log-probabilities as `score` sums them.
        greedy: whether each token of a continuation is the likeliest after those before it.
    """

    sums: Float[np.ndarray, "C N"]
    greedy: Bool[np.ndarray, "C N"]


def score_and_compare(
    params: Params,
    config: DecoderConfig,
    pairs: Sequence[Pair],
    edit: Edit | None = None,
    *,
    conditions: Sequence[int] | None = None,
    positions: Positions = "last",
    dtype: DTypeLike = jnp.float32,
    progress: str | None = None,
) -> Scores:
    """Scores continuations as `score` does, and compares them with greedy ones, in the same forward.

    Args and errors are those of `score`.
    """
    return _scores(params, config, pairs, edit, conditions, positions, dtype, progress, compare=True)


def _scores(
    params: Params,
    config: DecoderConfig,
    pairs: Sequence[Pair],
    edit: Edit | None,
    conditions: Sequence[int] | None,
    positions: Positions,
    dtype: DTypeLike,
    progress: str | None,
    compare: bool,
) -> Scores:
    """Args: compare: whether the likeliest tokens are looked for; without that, `greedy` means nothing."""
    check_embedded([ids for pair in pairs for ids in pair], config.vocab_size, "a text to score")
    wanted = range(1 if edit is None else edit.push.shape[1]) if conditions is None else conditions
    totals = np.zeros((len(wanted), len(pairs)))
    others = np.zeros((len(wanted), len(pairs)))
    # In this order neighbours share the longest prefixes.
    order = sorted(range(len(pairs)), key=lambda i: pairs[i][0].astype(">u4").tobytes())
    at_once = max(1, SEQUENCES_AT_ONCE // len(wanted))
    chunks = [order[at : at + at_once] for at in range(0, len(order), at_once)]
    longest = max(pairs, key=lambda pair: len(pair[0]) + len(pair[1]), default=None)
    width = 0
    with Bar(total=len(pairs), desc=progress, unit=" continuations") as bar:
        for chunk in chunks:
            sequences = [
                under(np.concatenate([before, after[:-1]]), condition * steered)
                for before, after in (pairs[i] for i in chunk)
                for steered in (_steered(len(before), len(before) + len(after) - 1, positions),)
                for condition in wanted
            ]
            width = width or cheapest_width([*sequences, np.concatenate(longest or ())], config)
            packed = pack(sequences, width)
            predicted = _Predictions(packed, [pairs[i] for i in chunk], len(wanted))
            summed = _score_packed(params, config, packed, predicted, edit, dtype, compare)
            totals[:, chunk], others[:, chunk] = (part.reshape(len(chunk), len(wanted)).T for part in summed)
            bar.update(len(chunk))
    return Scores(totals, others == 0)


def _steered(context: int, length: int, positions: Positions) -> np.ndarray:
    return (np.arange(length) >= steered_from(context, positions)).astype(np.int64)


class _Predictions:
    """The tokens of all continuations and the slots that predict them; int arrays of one length.

    Attributes:
        row, slot: place of the residual from which a token is predicted.
        token: the predicted token.
        sequence: the sequence it belongs to, numbered pair by pair and condition by condition.
    """

    def __init__(self, packed: Packed, pairs: Sequence[Pair], conditions: int) -> None:
        counts = np.repeat([len(after) for _, after in pairs], conditions)
        self.sequence = np.repeat(np.arange(len(counts)), counts)
        self.token = np.concatenate([np.tile(after, conditions) for _, after in pairs])
        starts = np.repeat([len(before) - 1 for before, _ in pairs], conditions)
        self.slot = np.concatenate([packed.paths[u][start:] for u, start in zip(packed.distinct, starts, strict=True)])
        self.row = packed.row_of[packed.distinct][self.sequence]
        self.sequences = len(counts)


def _score_packed(
    params: Params,
    config: DecoderConfig,
    packed: Packed,
    predicted: _Predictions,
    edit: Edit | None,
    dtype: DTypeLike,
    compare: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Sums the log-probability of every sequence, float64, and counts its tokens that are not the likeliest."""
    rows = max(1, min(packed.rows, default_batch_slots() // packed.width))
    decoder = Decoder(config, dtype)
    work = []
    for first in range(0, packed.rows, rows):
        members = np.flatnonzero((predicted.row >= first) & (predicted.row < first + rows))
        if len(members):
            place = (predicted.row[members] - first) * packed.width + predicted.slot[members]
            places, which = np.unique(place, return_inverse=True)
            work.append((first, members, places, which))
    most_slots = _round_up(max(len(places) for _, _, places, _ in work))
    most_tokens = _round_up(max(len(members) for _, members, _, _ in work))
    totals, pending = (np.zeros(predicted.sequences), np.zeros(predicted.sequences)), []
    for first, members, places, which in work:
        slots, conditions = padded_rows(packed, slice(first, first + rows), rows)
        values = _log_probabilities(
            params,
            slots,
            None if edit is None else Intervention(edit, conditions),
            _padded(places, most_slots),
            _padded(which, most_tokens),
            _padded(predicted.token[members], most_tokens),
            decoder=decoder,
            compare=compare,
        )
        pending.append((members, values))
        # One batch stays queued while the device works on another.
        if len(pending) > 1:
            _add(totals, predicted, *pending.pop(0))
    for item in pending:
        _add(totals, predicted, *item)
    return totals


@partial(jax.jit, static_argnames=("decoder", "compare"))
def _log_probabilities(
    params: Params,
    slots: Slots,
    intervention: Intervention | None,
    places: Int[Array, " R"],
    which: Int[Array, " M"],
    tokens: Int[Array, " M"],
    *,
    decoder: Decoder,
    compare: bool,
) -> tuple[Float[Array, " M"], Bool[Array, " M"]]:
    """Computes each token's log-probability as predicted from slot `places[which]` of the flattened rows.

    Returns:
        The log-probabilities, and whether another token is likelier: nowhere unless `compare`.
    """
    variables = {"params": params}
    output = cast(Output, decoder.apply(variables, slots, slots.tokens[:, :1] * 0, intervention))
    hidden = output.last.reshape(-1, decoder.config.width)[places]
    hidden = cast(Array, decoder.apply(variables, hidden[None], method="normed"))[0]
    head = params["embedding" if decoder.config.tied_head else "head"]
    precision, cap = precision_for(decoder.dtype), decoder.config.logit_cap
    at_once = LOGITS_AT_ONCE.get(jax.default_backend(), MOST_LOGITS_AT_ONCE)
    if compare:
        normaliser, likeliest = log_normalisers_and_likeliest(hidden, head, at_once, precision, cap)
        differs = likeliest[which] != tokens
    else:
        normaliser, differs = log_normalisers(hidden, head, at_once, precision, cap), jnp.zeros(tokens.shape, bool)
    logits = jnp.einsum("md,md->m", hidden[which], head[tokens], precision=precision,
                        preferred_element_type=jnp.float32)  # fmt: skip
    return capped(logits, cap) - normaliser[which], differs


def _add(
    totals: tuple[np.ndarray, np.ndarray],
    predicted: _Predictions,
    members: np.ndarray,
    computed: tuple[Array, Array],
) -> None:
    for total, values in zip(totals, computed, strict=True):
        np.add.at(total, predicted.sequence[members], np.asarray(values, np.float64)[: len(members)])


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(size - len(values), values.dtype)]).astype(np.int32)


def _round_up(count: int) -> int:
    """Rounds up to a power of two, so that few shapes are compiled."""
    return max(64, 1 << math.ceil(math.log2(count)))
