"""Documents → training rows of one width, several documents to a row, none of which sees another.

A row is laid out as the decoder reads it: tokens and, per slot, the first slot after its document (`ends`); positions
restart with every document. A token counts for the loss if it is learnt: never the first of its document in a row, and
of a conversation only what the assistant says. Axes: N rows, T slots.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from jtrace.data.corpus import Conversation, Document
from jtrace.data.tokenizer import encode
from jtrace.errors import InputError

TEXTS_AT_ONCE = 10_000


class Tokens(NamedTuple):
    """A document's tokens, and which of them are to be predicted from those before."""

    ids: Int[np.ndarray, " n"]
    learnt: Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Rows:
    """Training rows. Padding slots are documents of their own of which nothing is learnt.

    Attributes:
        learnt: whether the loss counts the prediction OF this slot's token.
        filled: whether a slot is no padding.
    """

    tokens: Int[np.ndarray, "N T"]
    ends: Int[np.ndarray, "N T"]
    learnt: Bool[np.ndarray, "N T"]
    filled: Bool[np.ndarray, "N T"]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Rows":
        """Some of the rows."""
        return Rows(self.tokens[rows], self.ends[rows], self.learnt[rows], self.filled[rows])

    def padded(self, count: int) -> "Rows":
        """The same rows and as many of padding as make `count`."""
        return Rows(
            *(
                np.concatenate([ours, padding])
                for ours, padding in zip(
                    (self.tokens, self.ends, self.learnt, self.filled),
                    _empty(count - len(self), self.tokens.shape[1]),
                    strict=True,
                )
            )
        )

    def positions(self) -> Int[np.ndarray, "N T"]:
        """How far each slot is into its document."""
        slots = np.broadcast_to(np.arange(self.ends.shape[1], dtype=np.int32), self.ends.shape)
        opens = np.ones(self.ends.shape, bool)
        opens[:, 1:] = self.ends[:, :-1] == slots[:, 1:]
        return slots - np.maximum.accumulate(np.where(opens, slots, 0), axis=1)


def tokenise(documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
    """Tokens of every document, with the special tokens that the tokeniser itself adds, and EOS after a plain text.

    Raises:
        InputError: a conversation is there and the tokeniser has no chat template, or one that rewrites earlier turns.
    """
    found: list[Tokens] = []
    for start in range(0, len(documents), TEXTS_AT_ONCE):
        some = documents[start : start + TEXTS_AT_ONCE]
        plain = iter(encode(tokenizer, [document for document in some if isinstance(document, str)]))
        for number, document in enumerate(some, start + 1):
            if isinstance(document, str):
                found.append(_ended(next(plain), tokenizer.eos_token_id))
            else:
                found.append(_of_conversation(document, tokenizer, f"--text: conversation {number}"))
    return found


def pack_rows(documents: Iterable[Tokens], context: int) -> Rows:
    """Lay documents out in rows of `context` slots, each in the row whose free space it leaves least of.

    A document longer than a row is cut into pieces; each piece begins with the last token of the one before, so that
    every token but a document's first is predicted exactly once.
    """
    pieces = [piece for document in documents for piece in _cut(document, context)]
    layout: list[list[Tokens]] = []
    room: list[tuple[int, int]] = []  # free slots and row, sorted
    for piece in pieces:
        at = bisect.bisect_left(room, (len(piece.ids), 0))
        if at < len(room):
            free, row = room.pop(at)
            layout[row].append(piece)
        else:
            free, row = context, len(layout)
            layout.append([piece])
        if free - len(piece.ids) > 1:
            bisect.insort(room, (free - len(piece.ids), row))
    rows = Rows(*_empty(len(layout), context))
    for row, members in enumerate(layout):
        start = 0
        for piece in members:
            stop = start + len(piece.ids)
            rows.tokens[row, start:stop] = piece.ids
            rows.ends[row, start:stop] = stop
            rows.learnt[row, start + 1 : stop] = piece.learnt[1:]
            rows.filled[row, start:stop] = True
            start = stop
    return rows


def _empty(rows: int, context: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    alone = np.tile(np.arange(1, context + 1, dtype=np.int32), (rows, 1))
    false = np.zeros((2, rows, context), bool)
    return np.zeros((rows, context), np.int32), alone, false[0], false[1]


def _cut(document: Tokens, context: int) -> list[Tokens]:
    starts = range(0, max(len(document.ids) - 1, 1), context - 1)
    return [Tokens(document.ids[i : i + context], document.learnt[i : i + context]) for i in starts]


def _ended(ids: np.ndarray, eos: int | None) -> Tokens:
    if eos is not None and (not len(ids) or ids[-1] != eos):
        ids = np.append(ids, np.int32(eos))
    return Tokens(ids, np.ones(len(ids), bool))


def _of_conversation(turns: Conversation, tokenizer: PreTrainedTokenizerBase, where: str) -> Tokens:
    """The chat template's text, cut where the assistant begins and ends to speak; what it says is learnt."""
    if not tokenizer.chat_template:
        raise InputError(f"{where}: the tokeniser has no chat template; give plain 'text', or a tokeniser that has one")
    messages = [message._asdict() for message in turns]

    def rendered(count: int, prompt: bool = False) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=prompt))

    done = ""
    ids: list[int] = []
    learnt: list[bool] = []

    def add(upto: str, learn: bool) -> None:
        nonlocal done
        if not upto.startswith(done):
            raise InputError(f"{where}: the chat template rewrites earlier turns; give plain 'text' instead")
        new = tokenizer(upto[len(done) :], add_special_tokens=False, return_attention_mask=False)["input_ids"]
        ids.extend(new)
        learnt.extend([learn] * len(new))
        done = upto

    try:
        for at, turn in enumerate(turns):
            if turn.role == "assistant":
                add(rendered(at, prompt=True), learn=False)
                add(rendered(at + 1), learn=True)
        add(rendered(len(turns)), learn=False)
    except InputError:
        raise
    except Exception as error:  # templates raise whatever they like
        raise InputError(f"{where}: the chat template refuses it ({' '.join(str(error).split())[:200]})") from None
    return Tokens(np.asarray(ids, np.int32), np.asarray(learnt, bool))
