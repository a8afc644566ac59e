"""Bin packing of pieces into rows of one width, by best fit (Johnson et al. 1974)."""

import numpy as np
from jaxtyping import Int


def best_fit(lengths: Int[np.ndarray, " P"], width: int) -> tuple[Int[np.ndarray, " P"], int]:
    """Assigns a row to each piece, int64, and counts the rows: longest piece first, each where it leaves least room.

    Pieces of one length are placed together, and so are rows of equal room. A row that took a piece has less room than
    any other that could take the next one, so it takes pieces until none fits.

    Args:
        lengths: lengths of the pieces, from 1 to `width`, in falling order.
    """
    row_of = np.empty(len(lengths), np.int64)
    with_room: list[list[np.ndarray]] = [[] for _ in range(width)]
    opened = done = 0
    for length, count in zip(*(part[::-1] for part in np.unique(lengths, return_counts=True)), strict=True):
        last = done + count
        for room in range(length, width + 1):
            if done == last:
                break
            each = room // length
            wanted = -(-(last - done) // each)
            if room == width:
                rows = np.arange(opened, opened + wanted)
                opened += wanted
            elif with_room[room]:
                rows = np.concatenate(with_room[room])
                with_room[room] = [rows[wanted:]] if len(rows) > wanted else []
                rows = rows[:wanted]
            else:
                continue
            placed = min(len(rows) * each, last - done)
            row_of[done : done + placed] = np.repeat(rows, each)[:placed]
            done += placed
            full, rest = divmod(placed, each)
            with_room[room - each * length].append(rows[:full])
            if rest:
                with_room[room - rest * length].append(rows[full:])
    return row_of, int(opened)
