"""What is kept of a checkpoint is kept by a key of its content: every tensor, its config and its tokeniser."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.checkpoints.content import Content, holds_weights, read_content
from jtrace.checkpoints.export import save_hf
from jtrace.checkpoints.load import load_params, read_config_json
from jtrace.checkpoints.orbax import save_store
from jtrace.errors import InputError
from tests.conftest import GOLDENS, letter_tokenizer

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = Path(shutil.copytree(GOLDENS / "llama-full", tmp_path / "model"))
    letter_tokenizer(path)
    return path


def touch(folder: Path) -> None:
    """New times for every file, as a copy gets them."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("name", sorted(load_file(GOLDENS / "llama-full" / WEIGHTS)))
def test_a_change_of_any_tensor_is_another_content(folder, name):
    before = read_content(folder)
    weights = load_file(folder / WEIGHTS)
    weights[name] = weights[name] * np.float32(1.001)
    save_file(weights, folder / WEIGHTS)
    after = read_content(folder)
    assert after.differences(before) == ("weights",)
    assert after.key != before.key


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("config.json", "config"),
        ("generation_config.json", "config"),
        ("tokenizer.json", "tokenizer"),
        ("tokenizer_config.json", "tokenizer"),
    ],
)
def test_config_and_tokeniser_decide_too(folder, file, part):
    before = read_content(folder)
    values = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
    (folder / file).write_text(json.dumps(values | {"more": 1}))
    assert read_content(folder).differences(before) == (part,)


def test_a_tokeniser_of_another_folder_is_the_one_that_counts(folder, tmp_path):
    other = tmp_path / "tokeniser"
    other.mkdir()
    letter_tokenizer(other)
    before = read_content(folder, other)
    (folder / "tokenizer.json").write_text("{}")
    assert read_content(folder, other).key == before.key
    (other / "tokenizer.json").write_text("{}")
    assert read_content(folder, other).differences(before) == ("tokenizer",)


def test_a_copy_has_the_same_key_wherever_it_lies_and_however_it_is_sharded(folder, tmp_path):
    before = read_content(folder)
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    touch(copy)
    assert read_content(copy).key == before.key
    weights = {name: np.array(value) for name, value in load_file(copy / WEIGHTS).items()}
    (copy / WEIGHTS).unlink()
    places = {name: f"{at % 3}.safetensors" for at, name in enumerate(weights)}
    for shard in set(places.values()):
        save_file({name: weights[name] for name in weights if places[name] == shard}, copy / shard)
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": places}))
    assert read_content(copy).key == before.key


def test_files_that_nobody_has_touched_are_not_read_again(folder, monkeypatch):
    known = read_content(folder)
    monkeypatch.setattr("jtrace.checkpoints.content._read", None)
    assert read_content(folder, known=known) == known
    with pytest.raises(TypeError):  # it would be read
        read_content(folder, known=replace(known, stamp="another"))


def test_a_file_of_the_same_size_and_time_is_read_again(folder):
    weights = load_file(folder / WEIGHTS)
    save_file(weights, folder / WEIGHTS)
    known, found = read_content(folder), (folder / WEIGHTS).stat()
    save_file({name: value * np.float32(2) for name, value in weights.items()}, folder / WEIGHTS)
    os.utime(folder / WEIGHTS, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (folder / WEIGHTS).stat().st_size == found.st_size
    assert read_content(folder, known=known).differences(known) == ("weights",)


def test_an_orbax_checkpoint_has_a_key_that_its_copies_share_and_others_do_not(folder, tmp_path):
    _, params = load_params(folder, jnp.float32)
    for name, value in (("one", 1.0), ("other", 1.001)):
        params["blocks"]["mlp"]["up"]["weight"] = params["blocks"]["mlp"]["up"]["weight"] * value
        save_store(tmp_path / name, read_config_json(folder), params, folder)
    one, other = read_content(tmp_path / "one"), read_content(tmp_path / "other")
    assert one.differences(other) == ("weights",)
    copy = Path(shutil.copytree(tmp_path / "one", tmp_path / "copy"))
    touch(copy)
    assert read_content(copy).key == one.key


def test_what_is_written_and_read_again_is_equal(folder):
    content = read_content(folder)
    assert Content.from_json(content.to_json()) == content


def test_a_folder_without_weights_or_with_damaged_ones_has_no_content(folder):
    (folder / WEIGHTS).write_bytes(b"damaged")
    assert holds_weights(folder)
    with pytest.raises(InputError, match=WEIGHTS):
        read_content(folder)
    (folder / WEIGHTS).unlink()
    assert not holds_weights(folder)
    with pytest.raises(InputError, match="holds no weights"):
        read_content(folder)


def test_a_float16_copy_is_another_content(folder, tmp_path):
    _, params = load_params(folder, jnp.float16)
    save_hf(tmp_path / "half", read_config_json(folder), params, folder)
    assert "weights" in read_content(tmp_path / "half").differences(read_content(folder))


@pytest.mark.alone
def test_thirteen_gigabytes_are_sampled_in_less_than_a_second(tmp_path, folder):
    """The 291 tensors of a Llama of 6.7 billion parameters in bfloat16, in a sparse file."""
    width, mlp, vocabulary, depth = 4096, 11008, 32000, 32
    block = {"q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width)}
    block |= {"gate": (mlp, width), "up": (mlp, width), "down": (width, mlp), "n1": (width,), "n2": (width,)}
    shapes = {f"{layer}.{name}": shape for layer in range(depth) for name, shape in block.items()}
    shapes |= {"embedding": (vocabulary, width), "head": (vocabulary, width), "norm": (width,)}
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    assert (folder / WEIGHTS).stat().st_size > 13e9
    started = time.perf_counter()
    before = read_content(folder)
    took = time.perf_counter() - started
    print(f"13.5 GB sampled in {took:.2f} s")
    assert took < 1
    with (folder / WEIGHTS).open("r+b") as file:
        file.seek(8 + len(text) + header["31.down"]["data_offsets"][0])
        file.write(b"\x01\x02")
    assert read_content(folder, known=before).differences(before) == ("weights",)
