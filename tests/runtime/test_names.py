"""One encoding of names."""

import os

import pytest

from jtrace.errors import InputError
from jtrace.runtime.names import LONGEST, check_name, checkpoint_name, file_name, plain_name


@pytest.mark.parametrize(
    ("model", "revision", "name", "file"),
    [
        ("LLM360/Amber", "ckpt_179", "LLM360/Amber@ckpt_179", "LLM360--Amber@ckpt_179"),
        ("llama", "step300", "llama@step300", "llama@step300"),
        ("smollm2", "", "smollm2", "smollm2"),
    ],
)
def test_checkpoints_are_named_as_the_contract_says(model, revision, name, file):
    assert checkpoint_name(model, revision) == name
    assert file_name(name) == file
    assert plain_name(file) == name


def test_a_name_is_refused_that_no_file_could_have():
    check_name("ä" * (LONGEST // 2), "--checkpoints:")
    with pytest.raises(InputError, match=f"a name of {LONGEST + 2} bytes, and files are called by it; {LONGEST} are"):
        check_name("ä" * (LONGEST // 2 + 1), "--checkpoints:")
    with pytest.raises(InputError, match=r"^--checkpoints: 'm.udcff': the name of a file or folder is not UTF-8"):
        check_name(os.fsdecode(b"m\xff"), "--checkpoints:")
