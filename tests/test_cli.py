"""Flags that are more than a value."""

import pytest

from jtrace.cli import parse_layers
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
