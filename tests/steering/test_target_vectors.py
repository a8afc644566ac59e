"""Vectors of files in the layers of a target, and the controls beside them."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from jtrace.errors import InputError
from jtrace.inference.language_model import load_language_model
from jtrace.probing.vector_files import read_vectors
from jtrace.steering.target_vectors import VectorChoice, vector_files, vectors_for, with_controls
from jtrace.steering.vector import SteeringVector
from tests.tiny_chat import DEPTH, WIDTH, write_chat, write_vectors

VECTOR = SteeringVector(
    np.random.default_rng(0).normal(size=(DEPTH, WIDTH)).astype(np.float32), (0, 1, 2), "base_step7", "stereoset", True
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(write_chat(tmp_path_factory.mktemp("models") / "chat"), "chat", "float32")


def test_a_file_that_exists_is_taken_as_it_is_brackets_and_all(tmp_path):
    folder = tmp_path / "x [y]/vectors"
    written = [write_vectors(folder / f"{name}.safetensors") for name in "ab"]
    assert vector_files([str(written[0])]) == written[:1]
    assert vector_files([f"{folder}/*.safetensors"]) == written


def test_vectors_of_a_glob_come_in_the_order_of_their_numbers(tmp_path):
    for step in (10, 9, 100):
        write_vectors(tmp_path / f"step{step}.safetensors")
    found = vector_files([f"{tmp_path}/*.safetensors", f"{tmp_path}/step9.safetensors"])
    assert [path.stem for path in found] == ["step9", "step10", "step100"]
    assert vector_files([]) == []


def test_a_choice_turns_every_set_s_vector_to_the_good_side_and_puts_controls_beside_it(tmp_path, model):
    path = write_vectors(tmp_path / "v.safetensors")
    choice = VectorChoice((str(path),), ("toxigen", "stereoset"), towards_good=True)
    files = choice.read()
    vectors = choice.in_target(model, files, choice.sets_of(files, ()), random=(7,))
    assert [(vector.dataset, vector.seed) for vector in vectors] == [
        ("-1*toxigen", None), ("-1*toxigen", 7), ("stereoset", None), ("stereoset", 7),
    ]  # fmt: skip
    assert all(vector.one_is_good for vector in vectors if vector.seed is None)


def test_no_files_are_no_sets():
    assert VectorChoice((), ("stereoset",)).sets_of([], ()) == ()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"width": 12}, "vectors of width 12; chat has width 24, take those of its base model"),
        (
            {"model": {"model_type": "olmo2", "width": 24, "depth": 3}},
            "vectors of a olmo2 model of 3 layers; chat is a llama model of 3; pass --any_family if that is meant",
        ),
        (
            {"model": {"model_type": "llama", "width": 24, "depth": 5}},
            "vectors of a llama model of 5 layers; chat is a",
        ),
    ],
)
def test_vectors_of_another_model_are_refused(tmp_path, model, about, message):
    path = write_vectors(tmp_path / "v.safetensors", **about)
    with pytest.raises(InputError, match=message):
        vectors_for(model, read_vectors(path), path, any_family=False)


def test_any_family_takes_vectors_of_the_same_width_and_drops_layers_beyond_the_target_s(tmp_path, model):
    about = {"model_type": "olmo2", "width": WIDTH, "depth": 5}
    path = write_vectors(tmp_path / "v.safetensors", model=about, layers=[0, 2, 4])
    found = read_vectors(path)
    vector = vectors_for(model, found, path, any_family=True)["stereoset"]
    assert (vector.layers, vector.values.shape) == ((0, 2), (DEPTH, WIDTH))
    np.testing.assert_array_equal(vector.values[[0, 2]], found.arrays["stereoset"][:2])
    assert not vector.values[1].any()
    narrow = write_vectors(tmp_path / "narrow.safetensors", width=12)
    with pytest.raises(InputError, match="width 12"):
        vectors_for(model, read_vectors(narrow), narrow, any_family=True)


def rows_of(path, count):
    """A file as other tools write them: every row is its number, and nothing says which layer it is of."""
    rows = np.repeat(np.arange(count, dtype=np.float32)[:, None], WIDTH, axis=1)
    save_file({"stereoset": rows}, path)
    return path


def test_rows_that_are_not_said_to_be_of_layers_are_one_for_each(tmp_path, model):
    path = rows_of(tmp_path / "depth.safetensors", DEPTH)
    vector = vectors_for(model, read_vectors(path), path, any_family=False)["stereoset"]
    assert (vector.layers, vector.values[:, 0].tolist()) == ((0, 1, 2), [0, 1, 2])
    for count in (1, DEPTH + 1):
        path = rows_of(tmp_path / f"{count}.safetensors", count)
        with pytest.raises(InputError, match=f"{count} rows of unknown layers for the 3 of chat; name"):
            vectors_for(model, read_vectors(path), path, any_family=True)


@pytest.mark.parametrize(
    ("layers", "kept", "values"),
    [((None, 0, 1, 2), (0, 1, 2), [1, 2, 3]), ((1,), (1,), [0, 0, 0]), ((2, 0), (0, 2), [1, 0, 0])],
)
def test_vector_layers_say_which_layer_each_row_is_of(tmp_path, model, layers, kept, values):
    path = rows_of(tmp_path / "v.safetensors", len(layers))
    vector = vectors_for(model, read_vectors(path).of_layers(layers, path), path, any_family=False)["stereoset"]
    assert (vector.layers, vector.values[:, 0].tolist()) == (kept, values)
    with pytest.raises(InputError, match=f"names {len(layers) + 1} layers for {len(layers)} rows; name each"):
        read_vectors(path).of_layers((*layers, 9), path)
    traced = write_vectors(tmp_path / "traced.safetensors")
    with pytest.raises(InputError, match="says itself which layers its rows are of; leave --vector_layers out"):
        read_vectors(traced).of_layers((0, 1, None), traced)


@pytest.mark.parametrize(("kind", "source"), [("mass_mean", "base_step7"), ("whitened", "base_step7:whitened")])
def test_vectors_are_named_after_their_checkpoint_and_kind(tmp_path, model, kind, source):
    path = write_vectors(tmp_path / "v.safetensors", kind=kind)
    found = vectors_for(model, read_vectors(path), path, any_family=False)
    assert {name: (one.source, one.dataset, one.one_is_good) for name, one in found.items()} == {
        "stereoset": (source, "stereoset", True),
        "toxigen": (source, "toxigen", False),
    }


def test_controls_are_random_directions_of_equal_norm_beside_each_vector():
    whitened = replace(VECTOR, source="base_step7:whitened")
    found = with_controls([VECTOR, whitened], [5, 6])
    assert [(vector.source, vector.seed) for vector in found] == [
        ("base_step7", None), ("base_step7:random", 5), ("base_step7:random", 6),
        ("base_step7:whitened", None), ("base_step7:whitened-random", 5), ("base_step7:whitened-random", 6),
    ]  # fmt: skip
    for control in found[1:3]:
        norms = np.linalg.norm(control.values, axis=1)
        np.testing.assert_allclose(norms, np.linalg.norm(VECTOR.values, axis=1), rtol=1e-5)
        assert np.abs((control.values * VECTOR.values).sum(axis=1)).max() < 0.9 * (norms**2).min()
    assert not np.array_equal(found[1].values, found[2].values)
    assert with_controls([VECTOR], []) == [VECTOR]
