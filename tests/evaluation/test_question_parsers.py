"""MathQA's `options`: one text, in two notations, whose answers may hold the commas and parentheses that divide it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtrace.evaluation.question_parsers import answers_in


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (
            "a ) 38 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none of these",
            ("38", "27.675", "30", "data inadequate", "none of these"),
        ),
        ("['a ) rs . 400', 'b ) rs . 300', 'c ) rs . 5,00']", ("rs . 400", "rs . 300", "rs . 5,00")),
        ("""["a ) it 's 1", 'b ) 2']""", ("it 's 1", "2")),
        ("a ) 1 , 2 , b )3 , c ) none of these", ("1 , 2", "3", "none of these")),
        ("a ) 1,000 , b ) 10,000 , c ) , d ) 4 : 3", ("1,000", "10,000", "", "4 : 3")),
        ("A ) one,B ) two", ("one", "two")),
        # A mark inside an answer leaves its parenthesis open.
        ("a ) f ( a , b ) , b ) f ( b , c ) , c ) f ( a )", ("f ( a , b )", "f ( b , c )", "f ( a )")),
        ("a ) [ a , b ) , b ) 3 , c ) 4", ("[ a , b )", "3", "4")),
        ("a ) ( 1 , 2 ] , b ) [ 3 , b ) , c ) 5", ("( 1 , 2 ]", "[ 3 , b )", "5")),
        # Where parentheses tell nothing, as many answers as possible.
        ("a ) ( 1 , b ) ( 2 , c ) ( 3", ("( 1", "( 2", "( 3")),
    ],
)
def test_answers_are_told_apart(options, answers):
    assert answers_in(options) == answers


FLAT = st.text("ab1 ,.:'", max_size=6)
NESTED = st.recursive(FLAT, lambda inner: st.tuples(FLAT, inner, FLAT).map(lambda parts: "{}({}){}".format(*parts)))
ANSWERS = st.lists(NESTED.map(str.strip), min_size=5, max_size=5)


@given(ANSWERS)
def test_five_answers_whose_parentheses_match_come_back_from_both_notations(answers):
    marked = [f"{letter} ) {answer}" for letter, answer in zip("abcde", answers, strict=True)]

    assert answers_in(" , ".join(marked)) == tuple(answers)
    assert answers_in(str(marked)) == tuple(answers)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "38",
        "a ) 38",
        "b ) 1 , a ) 2",
        "b ) 1 , c ) 2",
        "x a ) 1 , b ) 2",
        "['a ) 1', '2']",
        "['a ) 1', 'c ) 2']",
        "['a ) 1'",
        "[1, 2]",
        "[]",
    ],
)
def test_other_notations_are_refused(options):
    with pytest.raises(ValueError, match="are not written as 'a "):
        answers_in(options)


@given(st.text("abcde ),[]'("))
def test_whatever_is_read_is_two_to_five_answers(options):
    try:
        answers = answers_in(options)
    except ValueError:
        return
    assert 2 <= len(answers) <= 5
