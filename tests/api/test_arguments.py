"""Errors of the Python interface speak of arguments, in the same words as the commands'."""

import pytest

from jtrace.api.arguments import in_python_words
from jtrace.errors import InputError, WriteError


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("--checkpoints: 'x' is no folder", "checkpoints: 'x' is no folder"),
        ("pass another one with --tokenizer=FOLDER", "pass another one with tokenizer=FOLDER"),
        ("check the path or --data_dir", "check the path or data_dir"),
        ("a--b and c --d-e", "a--b and c d-e"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_flags_are_named_as_arguments(said, heard):
    @in_python_words
    def fails():
        raise InputError(said)

    with pytest.raises(InputError) as caught:
        fails()
    assert str(caught.value) == heard


def test_the_kind_of_error_stays():
    @in_python_words
    def fails():
        raise WriteError("--out=x: the disk is full")

    with pytest.raises(WriteError, match=r"^out=x: the disk is full"):
        fails()
