"""Files of steering vectors: what is read of them, and what is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jtrace.errors import InputError
from jtrace.probing.vector_files import ModelFacts, read_vectors

ABOUT = {
    "kind": "pca",
    "checkpoint": "org--tiny@step2",
    "layers": [1, 4],
    "label_one_is_good": {"mine": True, "other": None},
    "model": {"model_type": "llama", "width": 3, "depth": 5},
}
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(path, arrays, about=None):
    save_file(
        arrays, path, None if about is None else {"jtrace": about if isinstance(about, str) else json.dumps(about)}
    )
    return path


def test_a_file_tells_what_its_vectors_are(tmp_path):
    found = read_vectors(write(tmp_path / "a.safetensors", {"mine": ROWS, "other": -ROWS}, ABOUT))
    assert (found.checkpoint, found.kind, found.layers) == ("org--tiny@step2", "pca", (1, 4))
    assert found.one_is_good == {"mine": True, "other": None}
    assert found.model == ModelFacts("llama", 3, 5)
    np.testing.assert_array_equal(found.arrays["other"], -ROWS)


def test_a_file_of_an_earlier_release_holds_mass_mean_vectors_of_an_unknown_model(tmp_path):
    about = {key: value for key, value in ABOUT.items() if key not in ("kind", "model", "label_one_is_good")}
    found = read_vectors(write(tmp_path / "a.safetensors", {"mine": ROWS}, about))
    assert (found.kind, found.model, found.one_is_good) == ("mass_mean", None, {"mine": None})
    assert (found.checkpoint, found.layers) == ("org--tiny@step2", (1, 4))


def test_plain_vectors_are_the_same_directions_in_their_plain_norms(tmp_path):
    rows = np.array([[3.0, 0, 4], [0, 0, 0]], np.float32)
    path = write(
        tmp_path / "a.safetensors", {"mine": rows}, ABOUT | {"kind": "mass_mean", "plain_norm": {"mine": [10, 2]}}
    )
    plain = read_vectors(path).plain(path)
    np.testing.assert_allclose(plain.arrays["mine"], [[6, 0, 8], [0, 0, 0]], rtol=1e-6)
    assert (plain.kind, plain.layers) == ("plain", (1, 4))
    older = write(tmp_path / "b.safetensors", {"mine": rows}, ABOUT)
    with pytest.raises(
        InputError, match=r"b\.safetensors: holds no plain norm, which --vector_scale=plain needs; take"
    ):
        read_vectors(older).plain(older)
    damaged = write(tmp_path / "c.safetensors", {"mine": rows}, ABOUT | {"plain_norm": {"mine": [1.0]}})
    with pytest.raises(InputError, match="metadata 'jtrace' is damaged"):
        read_vectors(damaged)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_a_file_from_elsewhere_holds_a_row_per_layer_from_0_on(tmp_path, dtype):
    found = read_vectors(write(tmp_path / "mine.v2.safetensors", {"any": ROWS.astype(dtype)}))
    assert (found.checkpoint, found.kind, found.layers) == ("mine.v2", None, (0, 1))
    assert (found.model, found.one_is_good) == (None, {"any": None})
    assert found.arrays["any"].dtype == np.float32
    np.testing.assert_array_equal(found.arrays["any"], ROWS)


@pytest.mark.parametrize(
    ("arrays", "about", "cause"),
    [
        ({"mine": ROWS[0]}, None, r"array 'mine' is float32 \[3\]"),
        ({"mine": ROWS.astype(np.int32)}, None, r"array 'mine' is int32 \[2, 3\]"),
        ({"mine": ROWS[:0]}, None, r"array 'mine' is float32 \[0, 3\]"),
        ({"mine": ROWS * np.nan}, None, "array 'mine' has NaN or infinite values"),
        ({"mine": ROWS, "other": ROWS[:1]}, None, r"arrays of shapes \[\[1, 3\], \[2, 3\]\]"),
        ({}, None, "holds no array"),
        ({"mine": ROWS}, "{", "cannot be read as vectors"),
        ({"mine": ROWS}, "[1]", "metadata 'jtrace' is damaged"),
        ({"mine": ROWS}, ABOUT | {"model": {"width": 3}}, "metadata 'jtrace' is damaged"),
        ({"mine": ROWS}, ABOUT | {"layers": [1]}, r"names layers \[1\] for 2 rows"),
        ({"mine": ROWS}, ABOUT | {"layers": [1, 1]}, r"names layers \[1, 1\] for 2 rows"),
        ({"mine": ROWS}, ABOUT | {"layers": [0, 5]}, r"layer 5, width 3"),
        ({"mine": ROWS[:, :2]}, ABOUT, r"layer 4, width 2"),
    ],
)
def test_what_holds_no_vectors_is_refused_in_one_line(tmp_path, arrays, about, cause):
    path = write(tmp_path / "a.safetensors", {name: np.ascontiguousarray(rows) for name, rows in arrays.items()}, about)
    with pytest.raises(InputError, match=cause) as error:
        read_vectors(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors: (cannot be read|not found)"):
        read_vectors(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_vectors(tmp_path)
