"""Packing token sequences as prefix trees into rows of one fixed shape.

Sequences are sorted, and blocks of neighbours are spread over rows by best fit. Within a row sequences are laid out in
order, depth first, so that a row holds each distinct prefix once. A slot is three integers: its token, its position
(depth in the tree) and `end`, the first slot after its subtree. Slot j sees slot i exactly when i ≤ j < end[i].
A sequence is read at its last slot. Equal sequences share one slot, and a sequence that is a prefix of another is read
at an interior slot. Padding slots see only themselves. Where tokens are computed under different conditions
(strengths of an intervention), slots are shared as long as tokens and conditions are both the same.

Axes: B rows, T slots, R reads per row, U distinct sequences, N sequences.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jtrace.data.binpacking import best_fit
from jtrace.models.config import DecoderConfig

_BITS = 32
_TOKEN = (1 << _BITS) - 1
# Neighbours that share fewer tokens than this may lie in different rows.
CUTS = (1, 2, 4, 8)
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True)
class Packed:
    """Sequences laid out as rows of prefix trees.

    Attributes:
        tokens, positions, ends: int32 [B, T], the slots.
        reads: int32 [B, R], slots to read; entries beyond those that a row needs are slot 0.
        read_of: int32 [B, R], the distinct sequence that each read belongs to; U (one past the last) for none.
        conditions: int32 [B, T], the condition of each slot; 0 for padding.
        row_of: int32 [U], the row that each distinct sequence lies in.
        paths: for each distinct sequence the slots of its tokens in its row, int32, in order.
        distinct: int32 [N], the distinct sequence that each given sequence is.
        used: int32 [B], slots of each row that are not padding.
        count: U, the number of distinct sequences.
    """

    tokens: Int[np.ndarray, "B T"]
    positions: Int[np.ndarray, "B T"]
    ends: Int[np.ndarray, "B T"]
    reads: Int[np.ndarray, "B R"]
    read_of: Int[np.ndarray, "B R"]
    conditions: Int[np.ndarray, "B T"]
    row_of: Int[np.ndarray, " U"]
    paths: Sequence[np.ndarray]
    distinct: Int[np.ndarray, " N"]
    used: Int[np.ndarray, " B"]
    count: int

    @property
    def rows(self) -> int:
        return self.tokens.shape[0]

    @property
    def width(self) -> int:
        return self.tokens.shape[1]


def pack(sequences: Sequence[np.ndarray], width: int) -> Packed:
    """Lays out sequences of token ids (integers, one dimension, not empty) in rows of `width` slots.

    Args:
        sequences: tokens, or tokens with conditions (see `under`).

    Raises:
        ValueError: a sequence is empty or longer than a row.
    """
    ordered, distinct = _sorted_distinct(sequences)
    if any(not 0 < len(ids) <= width for ids in ordered):
        raise ValueError(f"every sequence must have 1 to {width} tokens")
    row_of, rows = _spread(ordered, _shared_prefixes(ordered), width)

    slots = np.zeros((rows, width), np.int64)
    positions = np.zeros((rows, width), np.int32)
    ends = np.tile(np.arange(1, width + 1, dtype=np.int32), (rows, 1))
    read_lists: list[list[tuple[int, int]]] = [[] for _ in range(rows)]
    used = np.zeros(rows, np.int32)
    # Tokens and path of each row's latest sequence.
    newest: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros(0, np.int64), np.zeros(0, np.int32))] * rows
    paths = []
    for index, (ids, row) in enumerate(zip(ordered, row_of.tolist(), strict=True)):
        before, above = newest[row]
        start, common = int(used[row]), _common(before, ids)
        stop = start + len(ids) - common
        slots[row, start:stop] = ids[common:]
        positions[row, start:stop] = np.arange(common, len(ids))
        path = np.concatenate([above[:common], np.arange(start, stop, dtype=np.int32)])
        used[row] = stop
        # This sequence is below every slot on its path, so their subtrees reach at least to its end.
        ends[row, path] = stop
        read_lists[row].append((int(path[-1]), index))
        paths.append(path)
        newest[row] = ids, path

    most = max(map(len, read_lists), default=0)
    reads = np.zeros((rows, most), np.int32)
    read_of = np.full((rows, most), len(ordered), np.int32)
    for row, pairs in enumerate(read_lists):
        reads[row, : len(pairs)], read_of[row, : len(pairs)] = zip(*pairs, strict=True)
    tokens, of_slots = (part.astype(np.int32) for part in (slots & _TOKEN, slots >> _BITS))
    row_of = row_of.astype(np.int32)
    return Packed(tokens, positions, ends, reads, read_of, of_slots, row_of, paths, distinct, used, len(ordered))


def under(tokens: np.ndarray, conditions: np.ndarray | int) -> np.ndarray:
    """Joins tokens with the conditions they are computed under, int64: slots are shared where both are equal."""
    return tokens.astype(np.int64) | (np.asarray(conditions, np.int64) << _BITS)


def cheapest_width(sequences: Sequence[np.ndarray], config: DecoderConfig) -> int:
    """Returns the row width of fewest operations: wide rows share more, narrow ones attend to less."""
    ordered, _ = _sorted_distinct(sequences)
    shared = _shared_prefixes(ordered)
    longest = max(map(len, ordered))
    candidates = [w for w in WIDTHS if w >= longest] or [longest]

    def operations(width: int) -> int:
        return _spread(ordered, shared, width)[1] * width * operations_per_slot(config, width)

    return min(candidates[:5], key=operations)


def operations_per_slot(config: DecoderConfig, width: int) -> int:
    """Counts floating-point operations of all blocks on one slot of a row of `width` (multiply and add are two)."""
    inner, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    mlps = config.experts.chosen if config.experts else 1
    mlp = mlps * (3 if config.gated_mlp else 2) * config.width * config.mlp_width
    weights = config.width * (2 * inner + 2 * kv) + mlp + config.width * (config.experts.count if config.experts else 0)
    return config.depth * (2 * weights + 4 * width * inner)


def _sorted_distinct(sequences: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Sorts distinct sequences (a prefix before its continuations); returns them and each input's index among them."""
    keys = [np.asarray(ids).astype(">i8").tobytes() for ids in sequences]
    ordered = sorted(set(keys))
    place = {key: i for i, key in enumerate(ordered)}
    distinct = np.fromiter((place[key] for key in keys), np.int32, len(keys))
    return [np.frombuffer(key, ">i8").astype(np.int64) for key in ordered], distinct


def _shared_prefixes(ordered: Sequence[np.ndarray]) -> list[int]:
    """Counts the leading tokens that each sequence shares with the one before it."""
    shared = [0] if ordered else []
    return shared + [_common(before, after) for before, after in itertools.pairwise(ordered)]


def _spread(ordered: Sequence[np.ndarray], shared: Sequence[int], width: int) -> tuple[Int[np.ndarray, " U"], int]:
    """Assigns a row to every sequence, int64, and counts the rows.

    Small blocks fill rows better, large ones repeat fewer prefixes; of the cuts that are tried, the one with the fewest
    rows is taken.
    """
    spreads = [_fitted(*_blocks(ordered, shared, width, cut), width) for cut in CUTS]
    return min(spreads, key=lambda spread: spread[1])


def _blocks(ordered: Sequence[np.ndarray], shared: Sequence[int], width: int, cut: int) -> tuple[list[int], list[int]]:
    """Counts sequences and slots of each block of neighbours.

    A block ends where the next sequence shares fewer than `cut` tokens with its last one, or does not fit a row.
    """
    counts: list[int] = []
    slots: list[int] = []
    for ids, common in zip(ordered, shared, strict=True):
        fresh = len(ids) - common
        if counts and common >= cut and slots[-1] + fresh <= width:
            counts[-1], slots[-1] = counts[-1] + 1, slots[-1] + fresh
        else:
            counts.append(1)
            slots.append(len(ids))
    return counts, slots


def _fitted(counts: Sequence[int], slots: Sequence[int], width: int) -> tuple[Int[np.ndarray, " U"], int]:
    sizes = np.array(slots, np.int64)
    order = np.argsort(-sizes, kind="stable")
    row_of, rows = best_fit(sizes[order], width)
    of_block = np.empty_like(row_of)
    of_block[order] = row_of
    return np.repeat(of_block, counts), rows


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """Counts the leading tokens that are the same."""
    length = min(len(one), len(other))
    differs = np.flatnonzero(one[:length] != other[:length])
    return int(differs[0]) if len(differs) else length
