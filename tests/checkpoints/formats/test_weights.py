"""The weights of a folder: the right files are found, opened one at a time, and checked against their index."""

import json
import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from jtrace.checkpoints.formats import weights
from jtrace.checkpoints.formats.weights import (
    SafetensorsFile,
    iter_weight_files,
    open_weight_file,
    read_index,
    tensor_infos,
    weight_files,
)
from jtrace.errors import InputError

INDEX = "model.safetensors.index.json"


def write(path, header, body=b"", size=None):
    """Write a safetensors file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + body)
    return path


def entry(shape=(2,), begin=0, end=8, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def message_of(function, *args):
    """The message with which an input is refused, which must be one line."""
    with pytest.raises(InputError) as caught:
        function(*args)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 800
    return message


def read_all(folder):
    return {name: file.read(name) for file in iter_weight_files(folder) for name in file.tensors}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class TestSafetensors:
    @pytest.mark.parametrize(
        "dtype",
        [
            *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
            *("uint64", "uint32", "uint16", "uint8", "bool"),
            ml_dtypes.bfloat16,
        ],
    )
    def test_every_dtype(self, path, dtype):
        values = np.arange(24).astype(dtype)
        tensors = {"a": values.reshape(2, 3, 4), "scalar": np.array(values[3]), "empty": values[:0].reshape(0, 5)}
        save_file(tensors, path, metadata={"format": "pt"})
        with SafetensorsFile(path) as file:
            assert file.tensors.keys() == tensors.keys()
            for name, expected in tensors.items():
                array, info = file.read(name), file.tensors[name]
                assert (info.shape, info.dtype) == (array.shape, array.dtype) == (expected.shape, expected.dtype)
                assert array.tobytes() == expected.tobytes()
                assert not array.flags.writeable

    @pytest.mark.torch
    def test_what_torch_writes(self, path):
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file as save_torch

        weight = torch.randn(3, 4).to(torch.bfloat16)
        save_torch({"w": weight}, path)
        with SafetensorsFile(path) as file:
            assert file.tensors["w"].dtype == ml_dtypes.bfloat16
            assert file.read("w").tobytes() == weight.view(torch.int16).numpy().tobytes()

    def test_a_tensor_is_a_view_that_outlives_the_file(self, path):
        save_file({"a": np.arange(6, dtype=np.float32)}, path)
        file = SafetensorsFile(path)
        array = file.read("a")
        assert np.shares_memory(array, file.read("a"))
        file.close()
        np.testing.assert_array_equal(array, np.arange(6))
        with pytest.raises(ValueError, match="closed"):
            file.read("a")

    def test_an_unaligned_tensor_is_copied(self, path):
        values = np.arange(2, dtype=np.float32)
        for pad in range(4):
            header = json.dumps({"a": entry()}).encode() + b" " * pad
            with SafetensorsFile(write(path, header, values.tobytes())) as file:
                assert file.read("a").flags.aligned
                np.testing.assert_array_equal(file.read("a"), values)

    def test_an_empty_file_of_no_tensors(self, path):
        save_file({}, path)
        with SafetensorsFile(path) as file:
            assert file.tensors == {}

    @pytest.mark.parametrize(
        ("header", "told"),
        [
            (b"{", "damaged JSON"),
            (b"\xff\xfe", "damaged JSON"),
            (b"[]", "is a list"),
            (b'{"a":1,"a":2}', "a key appears twice"),
            (b"[" * 100_000, "damaged JSON"),
            (b'{"a":' + b"9" * 10_000 + b"}", "damaged JSON"),
            ({"a": None}, "impossible header entry"),
            ({"a": {"dtype": "F32", "shape": [2]}}, "impossible header entry"),
            ({"a": entry(dtype=3)}, "impossible header entry"),
            ({"a": entry(dtype="F8_E4M3")}, "has the dtype 'F8_E4M3'"),
            ({"a": entry((3,))}, "impossible header entry"),
            ({"a": entry((-2,))}, "impossible header entry"),
            ({"a": entry((2.0,))}, "impossible header entry"),
            ({"a": entry((1,) * 8 + (2,))}, "impossible header entry"),
            ({"a": entry((2**70, 0), 0, 0)}, "impossible header entry"),
            ({"a": entry((2,), -8, 0)}, "overlap, leave gaps"),
            ({"a": entry((2,), 8, 16)}, "overlap, leave gaps"),
            ({"a": entry((4,), 0, 16)}, "overlap, leave gaps"),
            ({"a": entry((1,), 0, 4)}, "overlap, leave gaps"),
            ({"a": entry(), "b": entry()}, "overlap, leave gaps"),
            ({"a": entry(), "b": entry((1,), 4, 8)}, "overlap, leave gaps"),
            ({}, "overlap, leave gaps"),
        ],
    )
    def test_headers_that_cannot_be(self, path, header, told):
        message = message_of(SafetensorsFile, write(path, header, bytes(8)))
        assert told in message
        assert str(path) in message

    @pytest.mark.parametrize(
        ("size", "told"), [(0, "damaged JSON"), (3, "damaged JSON"), (1000, "cut short"), (2**64 - 1, "cut short")]
    )
    def test_header_sizes_that_cannot_be(self, path, size, told):
        message = message_of(SafetensorsFile, write(path, {"a": entry()}, bytes(8), size))
        assert told in message
        assert str(path) in message

    @pytest.mark.parametrize("content", [b"", b"\x00", bytes(8), b"version https://git-lfs.github.com/spec/v1\n"])
    def test_files_of_another_kind(self, path, content):
        path.write_bytes(content)
        assert str(path) in message_of(SafetensorsFile, path)

    def test_a_header_above_the_bound(self, path):
        with path.open("wb") as file:
            file.write((101 << 20).to_bytes(8, "little"))
            file.truncate(110 << 20)
        assert "cut short or not a safetensors file" in message_of(SafetensorsFile, path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "model.safetensors"
    save_file(
        {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 2)), "c": np.ones(3, np.uint8)}, path
    )
    return path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_give_the_announced_shapes_or_an_input_error(sound, data):
    content = bytearray(sound)
    positions = st.integers(0, len(content) - 1)
    for position, value in data.draw(st.dictionaries(positions, st.integers(0, 255), max_size=4)).items():
        content[position] = value
    if data.draw(st.booleans()):
        del content[data.draw(positions) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(content)
        message = ""
        try:
            with SafetensorsFile(path) as file:
                for name, info in file.tensors.items():
                    array = file.read(name)
                    assert (array.shape, array.dtype) == (info.shape, info.dtype)
                    array.tobytes()
        except InputError as error:
            message = str(error)
        assert "\n" not in message


class TestWhichFiles:
    @pytest.fixture
    def folder(self, tmp_path):
        """A folder with every kind of weights there is."""
        for name in ("model.safetensors", "pytorch_model.bin", "b.safetensors", "a.safetensors", "b.bin", "a.bin"):
            (tmp_path / name).touch()
        for name, suffix in ((INDEX, "safetensors"), ("pytorch_model.bin.index.json", "bin")):
            places = {"x": f"b.{suffix}", "y": f"a.{suffix}", "z": f"b.{suffix}"}
            (tmp_path / name).write_text(json.dumps({"metadata": {}, "weight_map": places}))
        return tmp_path

    def test_safetensors_before_torch_and_a_file_before_an_index_as_transformers_does(self, folder):
        for expected, removed in [
            (["model.safetensors"], "model.safetensors"),
            (["a.safetensors", "b.safetensors"], INDEX),
            (["pytorch_model.bin"], "pytorch_model.bin"),
            (["a.bin", "b.bin"], "pytorch_model.bin.index.json"),
        ]:
            assert weight_files(folder) == [folder / name for name in expected]
            (folder / removed).unlink()
        assert "'a.bin'" in message_of(weight_files, folder)

    def test_a_folder_without_weights(self, tmp_path):
        assert "only nothing" in message_of(weight_files, tmp_path)
        (tmp_path / "config.json").touch()
        (tmp_path / "model.safetensors").mkdir()
        message = message_of(weight_files, tmp_path)
        assert "'config.json', 'model.safetensors'" in message
        assert str(tmp_path) in message

    def test_no_folder(self, tmp_path):
        assert "no such folder" in message_of(weight_files, tmp_path / "nowhere")

    def test_a_file_of_another_kind(self, tmp_path):
        assert "neither" in message_of(open_weight_file, tmp_path / "model.gguf")


class TestIndex:
    @pytest.fixture
    def folder(self, tmp_path):
        """Two shards, `x` and `y` in the first, `z` in the second."""
        save_file({"x": np.arange(3, dtype=np.float32), "y": np.zeros((2, 2), np.float16)}, tmp_path / "1.safetensors")
        save_file({"z": np.arange(4, dtype=np.int64)}, tmp_path / "2.safetensors")
        self.index(tmp_path, x="1.safetensors", y="1.safetensors", z="2.safetensors")
        return tmp_path

    @staticmethod
    def index(folder, **places):
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))

    def test_the_shards_together(self, folder):
        assert {name: array.tolist() for name, array in read_all(folder).items()} == {
            "x": [0, 1, 2],
            "y": [[0, 0], [0, 0]],
            "z": [0, 1, 2, 3],
        }
        assert {name: (info.shape, info.dtype.name) for name, info in tensor_infos(folder).items()} == {
            "x": ((3,), "float32"),
            "y": ((2, 2), "float16"),
            "z": ((4,), "int64"),
        }

    def test_one_file_is_open_at_a_time(self, folder):
        files = []
        for file in iter_weight_files(folder):
            files.append(file)
            for earlier in files[:-1]:
                with pytest.raises(ValueError, match="closed"):
                    earlier.read("x")
        assert [file.path.name for file in files] == ["1.safetensors", "2.safetensors"]

    def test_a_single_file_needs_no_index(self, tmp_path):
        save_file({"x": np.ones(3, np.float32)}, tmp_path / "model.safetensors")
        assert read_all(tmp_path)["x"].tolist() == [1, 1, 1]

    @pytest.mark.torch
    def test_torch_shards(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save({"x": torch.ones(2)}, tmp_path / "1.bin")
        torch.save({"y": torch.zeros(2).bfloat16()}, tmp_path / "2.bin")
        places = {"x": "1.bin", "y": "2.bin"}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
        assert tensor_infos(tmp_path).keys() == {"x", "y"}
        assert read_all(tmp_path)["y"].dtype == ml_dtypes.bfloat16

    def test_symlinked_files_as_the_hub_cache_keeps_them(self, folder, tmp_path_factory):
        blobs = tmp_path_factory.mktemp("blobs")
        for number, name in enumerate((INDEX, "1.safetensors", "2.safetensors")):
            (folder / name).rename(blobs / str(number))
            (folder / name).symlink_to(os.path.relpath(blobs / str(number), folder))
        assert read_all(folder).keys() == {"x", "y", "z"}

    @pytest.mark.parametrize("function", [weight_files, read_all, tensor_infos])
    def test_a_single_file_of_other_values_beside_the_shards_is_refused_with_both_names(self, folder, function):
        earlier = {name: np.array(value) for name, value in read_all(folder).items()}
        save_file(earlier | {"z": np.arange(4, dtype=np.int64) + 1}, folder / "model.safetensors")
        message = message_of(function, folder)
        assert (
            f"{folder / 'model.safetensors'}: holds other weights than the shards of {folder / INDEX} ('z'" in message
        )
        assert "transformers reads the single file" in message

    def test_a_single_file_that_lacks_a_tensor_of_the_shards_is_refused(self, folder):
        save_file({"x": np.arange(3, dtype=np.float32)}, folder / "model.safetensors")
        assert "('y', 2 tensors in all)" in message_of(weight_files, folder)

    def test_a_single_file_of_the_same_values_is_read(self, folder):
        save_file({name: np.array(value) for name, value in read_all(folder).items()}, folder / "model.safetensors")
        assert weight_files(folder) == [folder / "model.safetensors"]

    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")])
    def test_an_index_whose_shards_are_gone_hides_no_single_file(self, folder, spoil):
        spoil(folder / "2.safetensors")
        save_file({"x": np.ones(3, np.float32)}, folder / "model.safetensors")
        assert read_all(folder)["x"].tolist() == [1, 1, 1]

    def test_an_index_of_the_single_file_itself_is_no_other_set(self, folder):
        save_file({"x": np.ones(3, np.float32)}, folder / "model.safetensors")
        self.index(folder, x="model.safetensors")
        assert weight_files(folder) == [folder / "model.safetensors"]

    def test_a_torch_file_beside_safetensors_is_never_read(self, folder):
        (folder / "pytorch_model.bin").write_bytes(b"of another format, and of whatever values")
        assert read_all(folder).keys() == {"x", "y", "z"}

    def test_a_missing_file(self, folder):
        (folder / "2.safetensors").unlink()
        message = message_of(weight_files, folder)
        assert "'2.safetensors', which is missing" in message
        assert str(folder / INDEX) in message

    def test_a_link_to_nothing_and_a_folder_count_as_missing(self, folder):
        (folder / "3.safetensors").symlink_to("nowhere")
        (folder / "4.safetensors").symlink_to(folder)
        for name in ("3.safetensors", "4.safetensors"):
            self.index(folder, x=name)
            assert "is missing" in message_of(weight_files, folder)

    @pytest.mark.parametrize(
        "name",
        ["../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", "", "a\\b", "a\n.bin", "a\0.bin", "\ud800"],
    )
    def test_names_outside_the_folder(self, folder, name):
        self.index(folder, x=name)
        assert "not a plain name" in message_of(weight_files, folder)

    def test_a_name_too_long_for_the_file_system(self, folder):
        self.index(folder, x="a" * 10_000)
        assert "is missing" in message_of(weight_files, folder)

    @pytest.mark.parametrize("function", [tensor_infos, read_all])
    def test_a_tensor_missing_from_its_file(self, folder, function):
        self.index(folder, x="1.safetensors", y="1.safetensors", z="2.safetensors", w="2.safetensors")
        message = message_of(function, folder)
        assert "lacks the tensor 'w'" in message
        assert str(folder / "2.safetensors") in message
        assert str(folder / INDEX) in message

    @pytest.mark.parametrize("function", [tensor_infos, read_all])
    def test_a_tensor_that_the_index_does_not_mention(self, folder, function):
        self.index(folder, x="1.safetensors", z="2.safetensors")
        assert "the tensor 'y', which" in message_of(function, folder)

    @pytest.mark.parametrize("function", [tensor_infos, read_all])
    def test_a_tensor_in_two_files(self, folder, function):
        save_file({"x": np.zeros(3, np.float32), "z": np.zeros(4, np.int64)}, folder / "2.safetensors")
        message = message_of(function, folder)
        assert str(folder / "2.safetensors") in message
        assert "places in '1.safetensors'" in message

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff",
            b"[]",
            b"{}",
            b'{"weight_map": {}}',
            b'{"weight_map": []}',
            b'{"weight_map": ["x"]}',
            b'{"weight_map": {"x": 1}}',
            b'{"weight_map": {"x": "1.safetensors", "x": "2.safetensors"}}',
            b"[" * 100_000,
        ],
    )
    def test_damaged_indexes(self, folder, content):
        (folder / INDEX).write_bytes(content)
        assert str(folder / INDEX) in message_of(weight_files, folder)

    def test_an_index_of_unreasonable_size(self, folder, monkeypatch):
        monkeypatch.setattr(weights, "_LARGEST_JSON", 32)
        assert "has more than the 32 B" in message_of(weight_files, folder)

    def test_no_index(self, tmp_path):
        assert "no such file" in message_of(read_index, tmp_path / INDEX)
