"""Flags that are more than a value."""

import pytest

from jtrace.commands.flags import parse_layer_groups, parse_layers, parse_strengths, parse_vector_layers
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
