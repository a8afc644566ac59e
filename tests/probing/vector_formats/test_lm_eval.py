"""Files of lm-eval's steered models: opened by torch, named as its modules are, and what is no vector of a block."""

import json

import numpy as np
import pytest

from jtrace.checkpoints.formats.torch_writer import torch_bytes
from jtrace.errors import InputError
from jtrace.models.families import FAMILIES
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import read_vectors
from tests.probing.test_vector_export import ROWS, VECTORS

ADDED = {"steering_vector": ROWS[0], "steering_coefficient": 2.0, "action": "add", "bias": None, "head_index": None}


def write(path, entry=ADDED, hookpoint="layers.3"):
    path.write_bytes(torch_bytes({hookpoint: entry}))
    return path


@pytest.mark.torch
def test_torch_opens_it_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    write_vector(tmp_path / "v.pt", VECTORS, strength=-2.5)
    content = torch.load(tmp_path / "v.pt", weights_only=True)
    assert list(content) == ["layers.1", "layers.4", "layers.12"]
    entry = content["layers.4"]
    assert torch.equal(entry.pop("steering_vector"), torch.from_numpy(ROWS[0]))
    assert json.loads(entry.pop("jtrace"))["set"] == "-2.5*mine"
    assert entry == {"steering_coefficient": -2.5, "action": "add", "bias": None, "head_index": None}


@pytest.mark.torch
def test_what_torch_saves_is_read(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    row = torch.from_numpy(ROWS[0])
    entry = {"steering_vector": row, "action": "add", "steering_coefficient": torch.tensor(3.0)}
    half = {"steering_vector": row.bfloat16(), "action": "add"}
    torch.save({"layers.10": entry, "gpt_neox.layers.2": half}, tmp_path / "sae.pt")
    found = read_vectors(tmp_path / "sae.pt")
    assert (found.checkpoint, found.kind, found.layers) == ("sae", None, (2, 10))
    np.testing.assert_array_equal(found.arrays["sae"][0], row.bfloat16().float().numpy())
    np.testing.assert_array_equal(found.arrays["sae"][1], 3 * ROWS[0])


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {"hf_olmo"}))  # of which transformers has no model
def test_hookpoints_are_modules_of_the_base_model(tmp_path, name):
    """lm-eval looks for each among `model.base_model.named_modules()`."""
    pytest.importorskip("torch", reason="needs the torch extra")
    from tests.goldens.make_goldens import blocks, random_model
    from tests.goldens.variants import VARIANTS

    variant = next(variant for variant in VARIANTS if variant.startswith(f"{name}-"))
    model = random_model(VARIANTS[variant], seed=0)
    path = FAMILIES[name].block_module
    base, _, inside = path.partition(".")
    assert base == model.base_model_prefix
    assert model.base_model.get_submodule(inside.format(1)) is blocks(model)[1]
    assert model.get_submodule(path.format(1)) is blocks(model)[1]


@pytest.mark.parametrize(
    "hookpoint", ["layers.3", "model.layers.3", "gpt_neox.layers.3", "h.3", "transformer.h.3", "model.decoder.layers.3"]
)
def test_coefficient_times_vector_is_read_of_a_block_s_output(tmp_path, hookpoint):
    found = read_vectors(write(tmp_path / "v.pt", hookpoint=hookpoint))
    assert found.layers == (3,)
    np.testing.assert_array_equal(found.arrays["v"], 2 * ROWS[:1])


@pytest.mark.parametrize(
    "hookpoint", ["layers.3.mlp", "layers", "layers.x", "layers.03", "g.3", "xlayers.3", "embed_tokens", ""]
)
def test_a_hookpoint_that_is_no_block_is_refused(tmp_path, hookpoint):
    with pytest.raises(InputError, match=f"hookpoint '{hookpoint}': is no block, as layers.15"):
        read_vectors(write(tmp_path / "v.pt", hookpoint=hookpoint))


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"action": "clamp"}, "does something else; steering vectors are added"),
        ({"action": None}, "does something else"),
        ({"bias": ROWS[0]}, "does something else"),
        ({"head_index": 0}, "does something else"),
        ({"steering_vector": ROWS}, r"its steering_vector is no tensor \[width\]"),
        ({"steering_vector": None}, r"its steering_vector is no tensor \[width\]"),
        ({"steering_coefficient": "2"}, "its steering_coefficient is no finite number"),
        ({"steering_coefficient": float("nan")}, "its steering_coefficient is no finite number"),
        ({"steering_coefficient": 10**400}, "too large"),
        ({"steering_coefficient": ROWS[0]}, "its steering_coefficient is no finite number"),
    ],
)
def test_what_is_not_added_to_a_block_is_refused(tmp_path, changed, cause):
    path = write(tmp_path / "v.pt", ADDED | changed)
    with pytest.raises(InputError, match=f"hookpoint 'layers.3': .*{cause}") as error:
        read_vectors(path)
    assert str(error.value).startswith(str(path))


def test_a_product_beyond_float32_is_refused(tmp_path):
    with pytest.raises(InputError, match="array 'v' has NaN or infinite values"):
        read_vectors(write(tmp_path / "v.pt", ADDED | {"steering_coefficient": 1e300}))


def test_two_vectors_of_one_block_are_refused(tmp_path):
    (tmp_path / "v.pt").write_bytes(torch_bytes({"layers.3": ADDED, "model.layers.3": ADDED}))
    with pytest.raises(InputError, match=r"'model\.layers\.3': a second one for its block"):
        read_vectors(tmp_path / "v.pt")


@pytest.mark.parametrize("content", [{"layers.3": ROWS[0]}, {"layers.3": 2.0}])
def test_a_file_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "v.pt").write_bytes(torch_bytes(content))
    with pytest.raises(InputError, match="holds no dict of dicts"):
        read_vectors(tmp_path / "v.pt")
