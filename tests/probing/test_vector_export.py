"""Vectors written in every format: what is read back, and what cannot be written."""

import dataclasses

import numpy as np
import pytest

from jtrace.errors import InputError, WriteError
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import ModelFacts, Vectors, read_vectors
from jtrace.probing.vector_formats import FORMATS

ROWS = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
VECTORS = Vectors(
    checkpoint="org--tiny@step2",
    kind="mass_mean",
    arrays={"mine": ROWS},
    layers=(4, 1, 12),
    one_is_good={"mine": True},
    model=ModelFacts("gpt_neox", 8, 16),
    plain_norms={"mine": np.array([3, 1, 2], np.float32)},
)
SUFFIXES = [suffix for how in FORMATS.values() for suffix in how.suffixes]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("strength", [1.0, -2.5])
def test_strength_layers_sign_and_norm_come_back(tmp_path, suffix, strength):
    path = tmp_path / f"v{suffix}"
    write_vector(path, VECTORS, strength=strength)
    back = read_vectors(path)
    name = {1.0: "mine", -2.5: "-2.5*mine"}[strength]
    order = [1, 0, 2]
    assert (back.checkpoint, back.kind, back.model) == ("org--tiny@step2", "mass_mean", VECTORS.model)
    assert (back.layers, back.layers_known) == ((1, 4, 12), True)
    np.testing.assert_array_equal(back.arrays[name], np.float32(strength) * ROWS[order])
    assert back.one_is_good == {name: strength > 0}
    np.testing.assert_array_equal(back.plain_norms[name], abs(strength) * np.array([1, 3, 2], np.float32))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_known_stays_unknown(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    unknown = {"kind": None, "model": None, "plain_norms": None, "one_is_good": {"mine": None}}
    write_vector(path, dataclasses.replace(VECTORS, **unknown))
    back = read_vectors(path)
    assert (back.kind, back.model, back.plain_norms, back.one_is_good) == (None, None, None, {"mine": None})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_vector_gives_the_same_bytes(tmp_path, suffix):
    for name in "ab":
        write_vector(tmp_path / f"{name}{suffix}", VECTORS)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("name", "changed", "arguments", "cause"),
    [
        ("v.txt", {}, {}, r"v\.txt: names no format of vectors; end it in one of \.gguf, "),
        ("v.txt", {}, {"to": "gguf"}, r"v\.txt: files of gguf are known by their suffix; end it in \.gguf"),
        ("v.gguf", {}, {"to": "npz"}, r"v\.gguf: files of npz are known by their suffix"),
        ("v.gguf", {}, {"to": "onnx"}, "'onnx' is no format of vectors; known are gguf, "),
        ("v.npz", {"arrays": {"a": ROWS, "b": ROWS}}, {}, "holds one vector, not those of a, b; choose a set"),
        ("v.npz", {}, {"strength": 0.0}, r"strength of 0\.0 makes no vector"),
        ("v.npz", {}, {"strength": np.inf}, "strength of inf makes no vector"),
        ("v.pt", {}, {"strength": 1e39}, r"1e\+39 times the vector is beyond float32"),
        ("v.gguf", {"layers": (0, 1, 2)}, {}, "cannot hold layer 0, .*; leave it out by --layers=1-2"),
        ("v.gguf", {"layers": (0,), "arrays": {"mine": ROWS[:1]}}, {}, "cannot hold layer 0, .*; write another format"),
        ("v.pt", {"model": ModelFacts("bert", 8, 16)}, {}, "blocks of a bert have no known name; write another"),
    ],
)
def test_what_a_format_cannot_say_is_refused_and_nothing_is_written(tmp_path, name, changed, arguments, cause):
    with pytest.raises(InputError, match=cause):
        write_vector(tmp_path / name, dataclasses.replace(VECTORS, **changed), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        write_vector(tmp_path / "file/v.npz", VECTORS)
