"""Flags that are more than a value."""

import pytest

from jtrace.commands.flags import parse_keep, parse_layer_groups, parse_layers, parse_strengths, parse_vector_layers
from jtrace.errors import InputError


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", None), ("3", (3,)), ("0,6,12-14", (0, 6, 12, 13, 14)), ("5,5,4", (4, 5)), (" 1, 2", (1, 2))],
)
def test_layers_are_numbers_and_ranges(text, layers):
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "4-2", "1,,2", "1.5", "0-99999999999"])
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match=r"is not a layer|beyond any model"):
        parse_layers(text)


@pytest.mark.parametrize(
    ("text", "rows"),
    [("", None), ("15", (15,)), ("embedding,0-2", (None, 0, 1, 2)), ("12, 3", (12, 3))],
)
def test_layers_of_rows_keep_their_order(text, rows):
    assert parse_vector_layers(text) == rows


@pytest.mark.parametrize("text", ["all", "3,3", "0-2,1", "embedding,embedding", "x", "1,"])
def test_layers_of_rows_are_named_once_each(text):
    with pytest.raises(InputError, match=r"--vector_layers=.*(name each row's layer, once|is not a layer)"):
        parse_vector_layers(text)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("all", None),
        ("3", ((3,),)),
        ("0,6,12-14", ((0,), (6,), (12,), (13,), (14,))),
        ("10+15", ((10, 15),)),
        ("15+10, 3, 10+15", ((10, 15), (3,))),
        ("1+3-5,2", ((1, 3, 4, 5), (2,))),
        ("5,5", ((5,),)),
    ],
)
def test_layers_are_steered_one_after_the_other_or_those_of_a_sum_at_once(text, groups):
    assert parse_layer_groups(text) == groups


@pytest.mark.parametrize("text", ["", "x", "1+", "+", "1,,2", "-1", "4-2", "0-99999999999", "all,1", "1+all"])
def test_other_layers_to_steer_are_refused(text):
    with pytest.raises(InputError, match=r"is not a layer|beyond any model|all stands by itself"):
        parse_layer_groups(text)


@pytest.mark.parametrize(
    ("texts", "strengths"),
    [
        (["-2", "-1", "0", "1", "2"], (-2.0, -1.0, 0.0, 1.0, 2.0)),
        (["1", "1.0", "0.5"], (1.0, 0.5)),
        ([" 1e-1 "], (0.1,)),
    ],
)
def test_strengths_are_numbers_each_once(texts, strengths):
    assert parse_strengths(texts) == strengths


def test_minus_nothing_is_nothing():
    assert str(parse_strengths(["-0", "0"])) == "(0.0,)"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "strong"], "--strengths: 'strong' is no number; give numbers as"),
        (["1", ""], "'' is no number"),
        (["nan"], "--strengths=nan: give finite numbers"),
        (["1", "inf"], "--strengths=1,inf: give finite numbers"),
        (["1e999"], "give finite numbers"),
        ([], "give finite numbers"),
    ],
)
def test_other_strengths_are_refused(texts, message):
    with pytest.raises(InputError, match=message):
        parse_strengths(texts)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", (20,)),
        ("log", (0, 1, 2, 4, 8, 16, 20)),
        ("3, 5", (3, 5, 20)),
        ("0-20/10,18-19", (0, 10, 18, 19, 20)),
        ("20", (20,)),
    ],
)
def test_kept_steps_are_numbers_and_ranges_and_the_last(text, kept):
    assert parse_keep(text, 20) == kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("all", "'all' is no step; give log, numbers, ranges A-B, or A-B/S"),
        ("0-20/0", "'0-20/0' is no step"),
        ("-1", "'-1' is no step"),
        ("21", "'21' does not lie in 0 to 20, the steps of this training"),
        ("9-3", "'9-3' does not lie in 0 to 20"),
    ],
)
def test_other_steps_are_refused(text, message):
    with pytest.raises(InputError, match=f"^--keep={text}: {message}"):
        parse_keep(text, 20)
