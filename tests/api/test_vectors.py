"""Steering vectors in Python: those of a trace, and files."""

import numpy as np
import pytest

import jtrace
from jtrace import InputError
from jtrace.probing.vectors import KINDS


def test_a_vector_is_that_of_the_trace(run, acts, data):
    vector, traced = jtrace.steering_vector(acts, data), run.vectors("chat")["mine"]

    np.testing.assert_allclose(vector.values, traced.values, rtol=1e-6)
    assert (vector.layers, vector.source, vector.dataset) == (traced.layers, traced.source, traced.dataset)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_made(acts, data, kind):
    vector = jtrace.steering_vector(acts, data, kind)

    assert vector.values.shape == (3, 24)
    assert vector.source == ("chat" if kind == "mass_mean" else f"chat:{kind}")


def test_the_share_of_rows_can_be_chosen(acts, data):
    x, ones = acts.to_numpy()[1].astype(np.float64), data.labels == 1
    difference = x[ones].mean(0) - x[~ones].mean(0)
    vector = jtrace.steering_vector(acts, data, fraction=1.0).values[1]

    assert vector @ difference / np.linalg.norm(vector) / np.linalg.norm(difference) == pytest.approx(1, abs=1e-5)
    direction = difference / np.linalg.norm(difference)
    assert np.linalg.norm(vector) == pytest.approx(np.std(x @ direction, ddof=1), rel=1e-4)


def test_of_some_layers_the_others_are_not_made(model, data):
    vector = jtrace.steering_vector(model.activations(data, layers=[1]), data)

    assert vector.layers == (1,)
    assert not vector.values[[0, 2]].any()
    assert repr(vector).startswith("SteeringVector('mine' of 'chat': layers 1, width 24, norms ")
    with pytest.raises(InputError, match="the vectors of chat have no layer 2; they have 1"):
        vector.at(layer=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "mean"}, "kind='mean': known are mass_mean"),
        ({"fraction": 0.0}, "fraction=0.0: give a share above 0, and at most 1"),
    ],
)
def test_bad_arguments_are_named(acts, data, arguments, message):
    with pytest.raises(InputError, match=message):
        jtrace.steering_vector(acts, data, **arguments)


@pytest.mark.parametrize("name", ["v.safetensors", "v.npz", "v.pt", "v.gguf"])
def test_a_saved_vector_is_read_back(model, acts, data, tmp_path, name):
    vector = -2 * jtrace.steering_vector(model.activations(data, layers=[1, 2]), data)
    vector.save(tmp_path / name)
    (read,) = jtrace.load_vectors(tmp_path / name).values()

    np.testing.assert_array_equal(read.values[[1, 2]], vector.values[[1, 2]])
    assert read.layers == (1, 2)
    prompts = ["ba be bi", "ba ."]
    steered = [model.generate(prompts, steer=one.at(layer=1), max_new_tokens=4) for one in (read, vector)]
    assert steered[0] == steered[1]


def test_what_a_format_cannot_say_is_refused(acts, data, tmp_path):
    with pytest.raises(InputError, match="layer 0"):
        jtrace.steering_vector(acts, data).save(tmp_path / "v.gguf")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"^nowhere.safetensors: not found"):
        jtrace.load_vectors("nowhere.safetensors")
