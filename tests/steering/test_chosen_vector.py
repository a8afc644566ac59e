"""One vector of a file: a set's or a sum's, in all layers or some."""

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.probing.vector_files import read_vectors
from jtrace.steering.chosen_vector import chosen_vector
from tests.tiny_chat import write_vectors

NORMS = {"stereoset": [1.0, 2.0, 3.0], "toxigen": [4.0, 5.0, 6.0]}


@pytest.fixture
def path(tmp_path):
    return write_vectors(tmp_path / "v.safetensors", layers=[0, 2, 1], plain_norm=NORMS)


def test_a_set_s_rows_of_some_layers_are_kept(path):
    held = read_vectors(path)
    chosen = chosen_vector(held, path, "toxigen", (1, 2))
    assert (chosen.layers, list(chosen.arrays), chosen.one_is_good) == ((2, 1), ["toxigen"], {"toxigen": False})
    np.testing.assert_array_equal(chosen.arrays["toxigen"], held.arrays["toxigen"][1:])
    assert chosen.plain_norms["toxigen"].tolist() == [5, 6]
    assert (chosen.checkpoint, chosen.kind, chosen.model) == (held.checkpoint, held.kind, held.model)


def test_a_sum_has_no_plain_norm(path):
    held = read_vectors(path)
    chosen = chosen_vector(held, path, "stereoset+-0.5*toxigen")
    expected = held.arrays["stereoset"] - np.float32(0.5) * held.arrays["toxigen"]
    np.testing.assert_array_equal(chosen.arrays["stereoset+-0.5*toxigen"], expected)
    assert (chosen.layers, chosen.plain_norms) == ((0, 2, 1), None)
    assert chosen.one_is_good == {"stereoset+-0.5*toxigen": True}


@pytest.mark.parametrize(
    ("expression", "layers", "cause"),
    [
        ("stereoset", (1, 5), "has no layer 5; it has 0-2"),
        ("other", None, "the vectors hold no set 'other', but stereoset, toxigen"),
    ],
)
def test_what_the_file_lacks_is_refused(path, expression, layers, cause):
    with pytest.raises(InputError, match=cause):
        chosen_vector(read_vectors(path), path, expression, layers)


def test_rows_of_unknown_layers_are_refused(tmp_path):
    np.savez(tmp_path / "v.npz", mine=np.ones((3, 4), np.float32))
    held = read_vectors(tmp_path / "v.npz")
    with pytest.raises(
        InputError, match="does not say which layers its 3 rows are of; name each by --vector_layers, as 0-2"
    ):
        chosen_vector(held, tmp_path / "v.npz", "mine")
    assert chosen_vector(held.of_layers((4, 5, 6), tmp_path), tmp_path, "mine").layers == (4, 5, 6)
