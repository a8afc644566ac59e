"""The way back: what left Hugging Face's format returns to it unchanged."""

import json
import shutil

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.checkpoints.export import convert_folder, save_hf
from jtrace.checkpoints.formats.weights import iter_weight_files, tensor_infos
from jtrace.checkpoints.load import load_params, read_config_json
from jtrace.errors import InputError
from tests.cases import few
from tests.conftest import GOLDENS
from tests.goldens.variants import COVERING, VARIANTS
from tests.in_process import refusal, run_command

SOURCE = GOLDENS / "olmo3-yarn"
every_variant = pytest.mark.parametrize(
    "golden",
    [pytest.param(name, marks=() if name in COVERING else pytest.mark.long) for name in sorted(VARIANTS)],
    indirect=True,
)


def weights(folder) -> dict[str, np.ndarray]:
    return {name: np.array(file.read(name)) for file in iter_weight_files(folder) for name in file.tensors}


@pytest.mark.slow
@every_variant
def test_every_family_s_weights_return_unchanged(tmp_path, golden):
    convert_folder(golden, tmp_path / "orbax", "orbax")
    convert_folder(tmp_path / "orbax", tmp_path / "back", "hf")
    # Transformers 5 and older files call this head by different names.
    names = {"lm_head.weight": "embed_out.weight"} if "gpt_neox" in golden.name else {}
    expected = {names.get(name, name): value for name, value in weights(golden).items()}
    found = weights(tmp_path / "back")
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    values = read_config_json(golden)
    assert read_config_json(tmp_path / "back") == values | {"dtype": "float32"}


@pytest.mark.torch
@every_variant
def test_torch_computes_identical_logits_after_the_round_trip(tmp_path, golden):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from transformers import AutoModelForCausalLM

    if golden.name.startswith("hf_olmo"):
        pytest.skip("transformers has no model of this type")
    convert_folder(golden, tmp_path / "orbax", "orbax")
    convert_folder(tmp_path / "orbax", tmp_path / "back", "hf")
    tokens = torch.from_numpy(np.load(golden / "expected.npz")["tokens"].astype(np.int64))

    def logits(folder):
        model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(report.values())
        with torch.no_grad():
            return model.eval()(tokens).logits

    assert torch.equal(logits(tmp_path / "back"), logits(golden))


@pytest.mark.parametrize("stored", few([np.float16, ml_dtypes.bfloat16]))
def test_the_stored_dtype_is_kept_and_written_into_the_config(tmp_path, stored):
    folder = shutil.copytree(SOURCE, tmp_path / "source")
    save_file({n: v.astype(stored) for n, v in weights(SOURCE).items()}, folder / "model.safetensors")
    values = read_config_json(folder) | {"torch_dtype": "float32", "auto_map": {"AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(values))
    convert_folder(folder, tmp_path / "orbax", "orbax")
    convert_folder(tmp_path / "orbax", tmp_path / "back", "hf")
    assert {info.dtype for info in tensor_infos(tmp_path / "back").values()} == {np.dtype(stored)}
    written = read_config_json(tmp_path / "back")
    assert written["dtype"] == np.dtype(stored).name
    assert "torch_dtype" not in written
    assert "auto_map" not in written


def test_tensors_of_different_dtypes_become_float32(tmp_path):
    folder = shutil.copytree(SOURCE, tmp_path / "source")
    mixed = {n: v.astype(np.float16) if "mlp" in n else v for n, v in weights(SOURCE).items()}
    save_file(mixed, folder / "model.safetensors")
    assert convert_folder(folder, tmp_path / "orbax", "orbax") == np.float32


def test_large_models_are_written_in_shards_that_read_back(tmp_path):
    _, params = load_params(SOURCE, jnp.float32)
    save_hf(tmp_path / "sharded", read_config_json(SOURCE), params, shard_bytes=20_000)
    files = sorted(tmp_path.glob("sharded/*.safetensors"))
    assert len(files) > 2
    assert all(file.stat().st_size < 24_000 for file in files)
    index = json.loads((tmp_path / "sharded" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in weights(SOURCE).values())
    for name, value in weights(SOURCE).items():
        np.testing.assert_array_equal(load_file(tmp_path / "sharded" / index["weight_map"][name])[name], value)


def test_an_output_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="exists already"):
        convert_folder(SOURCE, tmp_path, "hf")


def test_the_command_goes_there_and_back(tmp_path, capsys):
    source = shutil.copytree(SOURCE, tmp_path / "source")
    (source / "tokenizer.json").write_text("{}")
    there = (f"--checkpoint={source}", f"--out={tmp_path}/orbax")
    assert run_command("convert", *there) == 0
    capsys.readouterr()
    back = (f"--checkpoint={tmp_path}/orbax", "--to=hf", f"--out={tmp_path}/back", "--dtype=bfloat16")
    assert run_command("convert", *back) == 0
    assert capsys.readouterr() == (f"wrote {tmp_path}/back (hf, bfloat16)\n", "")
    assert (tmp_path / "back" / "tokenizer.json").read_text() == "{}"
    # The same command again, as after a kill, has nothing to do; another one finds the place taken.
    assert run_command("convert", *there) == 0
    assert capsys.readouterr().out == f"{tmp_path}/orbax holds it already (orbax)\n"
    (tmp_path / "back/model.safetensors").unlink()
    assert refusal("convert", *back).startswith(f"error: {tmp_path}/back: exists already")
    taken = f"error: {tmp_path}/orbax: exists already; name a new or empty folder"
    assert refusal("convert", *there, "--dtype=bfloat16") == taken
