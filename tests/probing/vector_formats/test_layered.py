"""Safetensors with an array for each layer: written, read, and refused where they do not fit together."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.errors import InputError
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import read_vectors
from tests.probing.test_vector_export import ROWS, VECTORS


def test_each_layer_has_an_array_of_its_own(tmp_path):
    write_vector(tmp_path / "v.safetensors", VECTORS, strength=0.5)
    arrays = load_file(tmp_path / "v.safetensors")
    assert set(arrays) == {"layer.1", "layer.4", "layer.12"}
    np.testing.assert_array_equal(arrays["layer.12"], np.float32(0.5) * ROWS[2])


def test_layers_of_different_types_become_float32(tmp_path):
    wide = {
        "layer.1": ROWS[0].astype(jnp.bfloat16),
        "layer.2": ROWS[1].astype(np.float16),
        "layer.3": ROWS[2].astype(float),
    }
    save_file(wide, tmp_path / "v.safetensors")
    found = read_vectors(tmp_path / "v.safetensors")
    assert found.arrays["v"].dtype == np.float32
    np.testing.assert_array_equal(found.arrays["v"], np.stack([row.astype(np.float32) for row in wide.values()]))


@pytest.mark.parametrize(
    ("arrays", "cause"),
    [
        ({"layer.1": ROWS}, r"array 'layer\.1' is float32 \[3, 8\]; floating-point arrays \[width\]"),
        ({"layer.1": ROWS[0], "layer.2": ROWS[1, :4]}, r"array 'layer\.2' is float32 \[4\]"),
        ({"layer.1": ROWS[0].astype(np.int32)}, r"array 'layer\.1' is int32 \[8\]"),
        ({"layer.1": ROWS[0, :0]}, r"array 'layer\.1' is float32 \[0\]"),
        ({"layer.1": ROWS[0].astype(float) * 1e300}, "array 'v' has NaN or infinite values"),
        ({"layer.1": ROWS[0] * np.nan}, "array 'v' has NaN or infinite values"),
        ({"layer.1": ROWS[0], "mine": ROWS[0]}, r"array 'layer\.1' is float32 \[8\]; vectors are .* \[layer, width\]"),
        ({"layer.01": ROWS[0]}, r"array 'layer\.01' is float32 \[8\]; vectors are"),
    ],
)
def test_what_is_no_vector_of_layers_is_refused(tmp_path, arrays, cause):
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match=cause):
        read_vectors(tmp_path / "v.safetensors")
