"""Rows hold every token once, and no document sees another."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.data.bpe import EOS, SMALLEST, train_tokenizer
from jtrace.data.corpus import Message
from jtrace.data.rows import Tokens, pack_rows, tokenise
from jtrace.data.tokenizer import read_tokenizer
from jtrace.errors import InputError
from tests.conftest import letter_tokenizer


def plain(*ids: int) -> Tokens:
    return Tokens(np.array(ids, np.int32), np.ones(len(ids), bool))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["the cat sat on the mat"], SMALLEST, folder)
    return read_tokenizer(folder)


def test_short_documents_share_a_row_and_the_first_token_of_each_is_not_learnt():
    rows = pack_rows([plain(1, 2, 3), plain(4, 5, 6, 7, 8), plain(9, 10)], 6)
    np.testing.assert_array_equal(rows.tokens, [[1, 2, 3, 9, 10, 0], [4, 5, 6, 7, 8, 0]])
    np.testing.assert_array_equal(rows.ends, [[3, 3, 3, 5, 5, 6], [5, 5, 5, 5, 5, 6]])
    np.testing.assert_array_equal(rows.positions(), [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 0]])
    np.testing.assert_array_equal(rows.learnt, [[0, 1, 1, 0, 1, 0], [0, 1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(rows.filled.sum(axis=1), [5, 5])


def test_a_long_document_is_cut_into_pieces_that_share_one_token():
    rows = pack_rows([plain(*range(1, 8))], 4)
    np.testing.assert_array_equal(rows.tokens, [[1, 2, 3, 4], [4, 5, 6, 7]])
    np.testing.assert_array_equal(rows.learnt, [[0, 1, 1, 1]] * 2)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(2, 12))
def test_every_token_but_a_document_s_first_is_learnt_exactly_once(lengths, context):
    starts = np.cumsum([0, *lengths])
    rows = pack_rows([plain(*range(a, b)) for a, b in itertools.pairwise(starts)], context)
    learnt = np.sort(rows.tokens[rows.learnt])
    np.testing.assert_array_equal(learnt, np.setdiff1d(np.arange(starts[-1]), starts[:-1]))
    # The token before a learnt one is its predecessor, in the same document and one position lower.
    row, slot = np.nonzero(rows.learnt)
    np.testing.assert_array_equal(rows.tokens[row, slot - 1], rows.tokens[row, slot] - 1)
    np.testing.assert_array_equal(rows.ends[row, slot - 1], rows.ends[row, slot])
    np.testing.assert_array_equal(rows.positions()[row, slot], rows.positions()[row, slot - 1] + 1)


def test_a_document_goes_where_it_leaves_least_room():
    rows = pack_rows([plain(1, 2, 3), plain(4, 5, 6, 7), plain(8, 9)], 6)
    np.testing.assert_array_equal(rows.tokens, [[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]])


def test_rows_of_padding_teach_nothing():
    rows = pack_rows([plain(1, 2, 3)], 4).padded(3)
    assert (len(rows), rows.learnt.sum(), rows.filled.sum()) == (3, 2, 3)
    np.testing.assert_array_equal(rows.ends[2], [1, 2, 3, 4])
    np.testing.assert_array_equal(rows.positions()[2], [0, 0, 0, 0])


def test_a_text_begins_and_ends_with_the_special_tokens(tokenizer):
    (found,) = tokenise(["cat"], tokenizer)
    assert tokenizer.convert_ids_to_tokens(found.ids) == ["<|bos|>", "c", "a", "t", EOS]
    assert found.learnt.all()


def test_a_tokeniser_without_an_end_adds_none(tmp_path):
    letter_tokenizer(tmp_path)
    (found,) = tokenise(["ab"], read_tokenizer(tmp_path))
    np.testing.assert_array_equal(found.ids, [0, 1])


def test_of_a_conversation_what_the_assistant_says_is_learnt_and_its_end(tokenizer):
    turns = [("system", "s"), ("user", "q"), ("assistant", "an"), ("user", "r"), ("assistant", "b"), ("user", "end")]
    _, found = tokenise(["plain", tuple(Message(*turn) for turn in turns)], tokenizer)
    text = tokenizer.apply_chat_template([Message(*turn)._asdict() for turn in turns], tokenize=False)
    np.testing.assert_array_equal(found.ids, tokenizer(text, add_special_tokens=False)["input_ids"])
    assert tokenizer.decode(found.ids[found.learnt]) == f"an{EOS}b{EOS}"


def test_a_conversation_needs_a_chat_template(tmp_path):
    letter_tokenizer(tmp_path)
    with pytest.raises(InputError, match="conversation 1: the tokeniser has no chat template"):
        tokenise([(Message("assistant", "b"),)], read_tokenizer(tmp_path))


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages | length }}{{ messages[-1]['content'] }}")
    with pytest.raises(InputError, match="rewrites earlier turns"):
        tokenise([(Message("user", "a"), Message("assistant", "b"))], tokenizer)
