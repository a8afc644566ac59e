"""Training rows of one width: several documents in a row, none of which sees another.

Rows are laid out from the documents' lengths alone, and filled with tokens when they are taken. A row has the decoder's
format: tokens and, for each slot, the first slot after its document (`ends`); positions restart with every document. A
token counts for the loss if it is learnt and is not the first of its document in a row. Axes: N rows, T slots.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from jtrace.data.binpacking import best_fit
from jtrace.data.corpus.token_store import TokenStore


@dataclass(frozen=True)
class Rows:
    """Training rows. Each padding slot is a document of its own, of which nothing is learnt.

    Attributes:
        learnt: whether the loss counts the prediction OF this slot's token.
        filled: whether a slot holds a token and not padding.
    """

    tokens: Int[np.ndarray, "N T"]
    ends: Int[np.ndarray, "N T"]
    learnt: Bool[np.ndarray, "N T"]
    filled: Bool[np.ndarray, "N T"]

    def __len__(self) -> int:
        return len(self.tokens)

    def positions(self) -> Int[np.ndarray, "N T"]:
        """Returns each slot's position in its document."""
        slots = np.broadcast_to(np.arange(self.ends.shape[1], dtype=np.int32), self.ends.shape)
        opens = np.ones(self.ends.shape, bool)
        opens[:, 1:] = self.ends[:, :-1] == slots[:, 1:]
        return slots - np.maximum.accumulate(np.where(opens, slots, 0), axis=1)


class Pieces(NamedTuple):
    """Stretches of tokens, each of one document: their starts in the store, and their lengths."""

    starts: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class RowPlan:
    """A layout of pieces of documents in rows.

    Attributes:
        pieces: the pieces, row by row, in their order in the row.
        bounds: row i holds the pieces from `bounds[i]` to before `bounds[i + 1]`.
        filled: number of tokens of each row.
    """

    tokens: TokenStore
    context: int
    pieces: Pieces
    bounds: np.ndarray
    filled: np.ndarray

    def __len__(self) -> int:
        return len(self.filled)

    def take(self, rows: np.ndarray) -> Rows:
        """Returns some rows, filled with their tokens; −1 stands for a row of padding."""
        count, context = len(rows), self.context
        members = np.where(rows < 0, 0, self.bounds[rows + 1] - self.bounds[rows])
        pieces = _ranges(self.bounds[rows], members)
        starts, lengths = self.pieces.starts[pieces], self.pieces.lengths[pieces]
        row = np.repeat(np.arange(count), members)
        # The start of each piece among all slots of these rows: after the pieces before it in its row.
        filled = np.where(rows < 0, 0, self.filled[rows])
        first = row * context + np.cumsum(lengths) - lengths - np.repeat(np.cumsum(filled) - filled, members)
        slots, sources = _ranges(first, lengths), _ranges(starts, lengths)
        tokens = np.zeros(count * context, np.int32)
        ends = np.tile(np.arange(1, context + 1, dtype=np.int32), count)
        learnt, is_filled = np.zeros((2, count * context), bool)
        tokens[slots] = self.tokens.ids[sources]
        ends[slots] = np.repeat(first + lengths - row * context, lengths)
        learnt[slots] = True if self.tokens.learnt is None else self.tokens.learnt[sources]
        learnt[first] = False
        is_filled[slots] = True
        return Rows(*(array.reshape(count, context) for array in (tokens, ends, learnt, is_filled)))


def lay_out(tokens: TokenStore, documents: np.ndarray, context: int) -> RowPlan:
    """Lays out documents in rows of `context` slots: longest first, each where it leaves least room.

    A document longer than a row is cut into pieces; each piece begins with the last token of the one before, so that
    every token but a document's first is predicted exactly once.
    """
    pieces = _cut(tokens, documents, context)
    order = np.argsort(-pieces.lengths, kind="stable")
    row_of, count = best_fit(pieces.lengths[order], context)
    by_row = np.argsort(row_of, kind="stable")
    order, row_of = order[by_row], row_of[by_row]
    pieces = Pieces(pieces.starts[order], pieces.lengths[order])
    bounds = np.searchsorted(row_of, np.arange(count + 1))
    filled = np.diff(np.concatenate([[0], np.cumsum(pieces.lengths)])[bounds])
    return RowPlan(tokens, context, pieces, bounds, filled)


def _cut(tokens: TokenStore, documents: np.ndarray, context: int) -> Pieces:
    begins, ends = tokens.offsets[documents], tokens.offsets[documents + 1]
    counts = np.where(ends > begins, np.maximum(-(-(ends - begins - 1) // (context - 1)), 1), 0)
    starts = np.repeat(begins, counts) + (context - 1) * _ranges(np.zeros_like(counts), counts)
    return Pieces(starts, np.minimum(context, np.repeat(ends, counts) - starts))


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenates the ranges start, start + 1, …"""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
