"""Rows hold every token once, and no document sees another."""

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jtrace.data.corpus.rows import RowPlan, Rows, lay_out
from jtrace.data.corpus.token_store import TokenStore
from jtrace.data.corpus.tokenise import Tokens


def plain(*ids: int) -> Tokens:
    return Tokens(np.array(ids, np.int32), np.ones(len(ids), bool))


def laid_out(documents: Sequence[Tokens], context: int) -> RowPlan:
    """Documents in memory, as a layout."""
    ids, learnt = (np.concatenate(parts) for parts in zip(*documents, strict=True))
    store = TokenStore(ids, learnt, np.cumsum([0, *(len(document.ids) for document in documents)]))
    return lay_out(store, np.arange(len(documents)), context)


def all_rows(documents: Sequence[Tokens], context: int) -> Rows:
    layout = laid_out(documents, context)
    return layout.take(np.arange(len(layout)))


def test_short_documents_share_a_row_and_the_first_token_of_each_is_not_learnt():
    rows = all_rows([plain(1, 2, 3), plain(4, 5, 6, 7, 8), plain(9, 10)], 6)
    np.testing.assert_array_equal(rows.tokens, [[4, 5, 6, 7, 8, 0], [1, 2, 3, 9, 10, 0]])
    np.testing.assert_array_equal(rows.ends, [[5, 5, 5, 5, 5, 6], [3, 3, 3, 5, 5, 6]])
    np.testing.assert_array_equal(rows.positions(), [[0, 1, 2, 3, 4, 0], [0, 1, 2, 0, 1, 0]])
    np.testing.assert_array_equal(rows.learnt, [[0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 1, 0]])
    np.testing.assert_array_equal(rows.filled.sum(axis=1), [5, 5])


def test_a_long_document_is_cut_into_pieces_that_share_one_token():
    rows = all_rows([plain(*range(1, 8))], 4)
    np.testing.assert_array_equal(rows.tokens, [[1, 2, 3, 4], [4, 5, 6, 7]])
    np.testing.assert_array_equal(rows.learnt, [[0, 1, 1, 1]] * 2)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(2, 12))
def test_every_token_but_a_document_s_first_is_learnt_exactly_once(lengths, context):
    starts = np.cumsum([0, *lengths])
    layout = laid_out([plain(*range(a, b)) for a, b in itertools.pairwise(starts)], context)
    rows = layout.take(np.arange(len(layout)))
    np.testing.assert_array_equal(rows.filled.sum(axis=1), layout.filled)
    learnt = np.sort(rows.tokens[rows.learnt])
    np.testing.assert_array_equal(learnt, np.setdiff1d(np.arange(starts[-1]), starts[:-1]))
    # The token before a learnt one is its predecessor, in the same document and one position lower.
    row, slot = np.nonzero(rows.learnt)
    np.testing.assert_array_equal(rows.tokens[row, slot - 1], rows.tokens[row, slot] - 1)
    np.testing.assert_array_equal(rows.ends[row, slot - 1], rows.ends[row, slot])
    np.testing.assert_array_equal(rows.positions()[row, slot], rows.positions()[row, slot - 1] + 1)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.integers(12, 20))
def test_each_piece_goes_to_the_row_that_it_leaves_least_room_in(lengths, context):
    one_by_one: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in one_by_one if room >= length]
        if fitting:
            one_by_one[one_by_one.index(min(fitting))] -= length
        else:
            one_by_one.append(context - length)
    found = laid_out([plain(*range(length)) for length in lengths], context)
    assert sorted(context - found.filled) == sorted(one_by_one)


def test_of_documents_left_out_nothing_is_in_the_rows():
    store = TokenStore(np.arange(10, dtype=np.uint16), None, np.array([0, 3, 7, 7, 10]))
    rows = lay_out(store, np.array([0, 2, 3]), 6).take(np.array([0]))
    np.testing.assert_array_equal(rows.tokens, [[0, 1, 2, 7, 8, 9]])
    np.testing.assert_array_equal(rows.learnt, [[0, 1, 1, 0, 1, 1]])


def test_rows_are_taken_in_the_order_asked_and_those_of_padding_teach_nothing():
    layout = laid_out([plain(1, 2, 3), plain(4, 5, 6)], 4)
    rows = layout.take(np.array([1, -1, 0]))
    np.testing.assert_array_equal(rows.tokens, [[4, 5, 6, 0], [0, 0, 0, 0], [1, 2, 3, 0]])
    np.testing.assert_array_equal(rows.ends[1], [1, 2, 3, 4])
    np.testing.assert_array_equal(rows.positions()[1], [0, 0, 0, 0])
    assert not rows.learnt[1].any()
    assert not rows.filled[1].any()


def test_a_hundred_thousand_documents_are_laid_out_at_once():
    lengths = np.random.default_rng(0).integers(1, 400, 100_000)
    store = TokenStore(np.zeros(lengths.sum(), np.uint16), None, np.concatenate([[0], np.cumsum(lengths)]))
    layout = lay_out(store, np.arange(len(store)), 512)
    assert layout.filled.sum() == lengths.sum()
    assert layout.filled.mean() > 0.99 * 512
