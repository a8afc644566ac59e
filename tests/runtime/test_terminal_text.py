"""Texts for a terminal: nothing in them is obeyed, and what is printed of a growing text stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.runtime.terminal_text import BETWEEN, GrowingText, cells, escaped, laid_out, wrapped

texts = st.text(alphabet="ab \n\té漢🙂\u0301\x1b", max_size=200)


def both(left, right, done=(True, True)):
    return [GrowingText("one", left, done[0]), GrowingText("two", right, done[1])]


def test_controls_are_shown_and_line_ends_kept():
    assert escaped("a\x1b[31mb\x07\r\n\tc\x9b2J\x7f\u202ed") == "a\\x1b[31mb\\x07\\r\n\tc\\x9b2J\\x7f\\u202ed"
    assert escaped("Größe 北京 🙂 👩\u200d🚀") == "Größe 北京 🙂 👩\u200d🚀"
    assert escaped(escaped("\x1b")) == escaped("\x1b")


def test_lines_break_between_words():
    assert wrapped("one two three", 7) == ["one two", "three"]
    assert wrapped("a\n\n  b  c", 7) == ["a", "", "  b  c"]
    assert wrapped("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert wrapped("", 4) == [""]


@given(texts, st.integers(2, 20))
def test_no_line_is_wider_and_no_word_is_lost(text, width):
    lines = wrapped(text, width)
    assert all(cells(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_wide_and_combining_characters_take_their_cells():
    assert cells("a漢e\u0301🙂") == 6
    assert wrapped("漢漢漢", 4) == ["漢漢", "漢"]


def test_texts_are_side_by_side_where_there_is_room():
    lines = laid_out(both("a b", "c\nd"), 80).split("\n")
    half = (80 - len(BETWEEN)) // 2
    assert lines[0] == "one".ljust(half) + BETWEEN + "two"
    assert lines[2:] == ["a b".ljust(half) + BETWEEN + "c", " " * half + BETWEEN + "d"]


@pytest.mark.parametrize("width", [0, 40, 66])
def test_elsewhere_they_follow_each_other(width):
    assert laid_out(both("a b ", "\nc"), width) == "one\na b\n\ntwo\nc"
    assert laid_out(both("a b", "c", (False, True)), width) == "one\na b"
    assert laid_out([GrowingText("", " a\x1b ", True)], width) == "a\\x1b"


@given(texts, texts, st.integers(0, 200), st.integers(0, 200), st.sampled_from([0, 67, 71, 120]))
def test_what_is_laid_out_of_less_is_the_beginning(left, right, first, second, width):
    """A text is cut anywhere; what was printed of its beginning stands, whichever of the two is done first."""
    whole = laid_out(both(left, right), width)
    cut = laid_out(both(left[:first], right[:second], (False, False)), width)
    one_done = laid_out(both(left, right[:second], (True, False)), width)
    other_done = laid_out(both(left[:first], right, (False, True)), width)
    assert one_done.startswith(cut)
    assert other_done.startswith(cut)
    assert whole.startswith(one_done)
    assert whole.startswith(other_done)
