"""One encoding of names."""

import pytest

from jtrace.runtime.names import checkpoint_name, file_name, plain_name


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
