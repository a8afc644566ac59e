"""Torch files made without torch: torch opens them, and jtrace reads them back."""

import numpy as np
import pytest

from jtrace.checkpoints.formats.torch_file import TorchFile, read_dicts
from jtrace.checkpoints.formats.torch_writer import torch_bytes

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
CONTENT = {
    "a": {"rows": ROWS, "text": "é", "number": 2.5, "whole": -3, "none": None, "true": True},
    "b": {"rows": ROWS.T, "scalar": np.array(1.5, np.float32), "empty": ROWS[:0]},
    "c": {},
}


def equal(back, content):
    return {
        name: {key: (value == content[name][key]) if not hasattr(value, "shape") else
               np.array_equal(np.asarray(value), content[name][key]) for key, value in inner.items()}
        for name, inner in back.items()
    } == {name: dict.fromkeys(inner, True) for name, inner in content.items()}  # fmt: skip


def test_a_dict_of_dicts_is_read_back(tmp_path):
    (tmp_path / "m.pt").write_bytes(torch_bytes(CONTENT))
    assert equal(read_dicts(tmp_path / "m.pt"), CONTENT)


def test_a_flat_dict_is_a_state_dict(tmp_path):
    (tmp_path / "m.bin").write_bytes(torch_bytes({"w": ROWS}))
    with TorchFile(tmp_path / "m.bin") as file:
        np.testing.assert_array_equal(file.read("w"), ROWS)


@pytest.mark.torch
def test_torch_opens_it_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    (tmp_path / "m.pt").write_bytes(torch_bytes(CONTENT))
    assert equal(torch.load(tmp_path / "m.pt", weights_only=True), CONTENT)


def test_the_same_content_gives_the_same_bytes():
    assert torch_bytes(CONTENT) == torch_bytes(CONTENT)
