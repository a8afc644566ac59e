"""Best fit: nothing overflows, and no two rows could have been one."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jtrace.data.binpacking import best_fit


@given(st.lists(st.integers(1, 20), max_size=60))
def test_every_piece_has_a_row_and_no_two_rows_fit_into_one(lengths):
    falling = np.array(sorted(lengths, reverse=True), np.int64)
    row_of, rows = best_fit(falling, 20)
    filled = np.bincount(row_of, falling, minlength=rows)
    assert len(filled) == rows
    assert ((filled > 0) & (filled <= 20)).all()
    assert all(one + other > 20 for one, other in itertools.combinations(filled, 2))


def test_a_piece_goes_where_it_leaves_least_room():
    row_of, rows = best_fit(np.array([7, 6, 4, 3]), 10)
    assert row_of.tolist() == [0, 1, 1, 0]
    assert rows == 2
