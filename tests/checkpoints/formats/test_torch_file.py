"""Torch checkpoints: what torch writes is read bit for bit, what torch would never write is refused unrun."""

import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jtrace
from jtrace.checkpoints.formats import torch_file
from jtrace.checkpoints.formats.torch_file import TorchFile
from jtrace.errors import InputError

BYTES_16 = bytes(range(16))


def constant(value):
    """The opcodes that push a plain value: a pickle without its PROTO and STOP."""
    return pickle.dumps(value, 2)[2:-1]


def named(name):
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(function, *args):
    return named(function) + b"(" + b"".join(args) + b"tR"


def storage(kind="torch.FloatStorage", key="0", numel=4, tag="storage"):
    return b"(" + constant(tag) + named(kind) + constant(key) + constant("cpu") + constant(numel) + b"tQ"


ORDERED_DICT = call("collections.OrderedDict")


def tensor_args(stored=None, offset=0, shape=(2, 2), stride=(2, 1), *metadata):
    rest = constant(offset) + constant(shape) + constant(stride) + constant(False) + ORDERED_DICT
    return (storage() if stored is None else stored) + rest + b"".join(map(constant, metadata))


def tensor(*args, **kwargs):
    return call("torch._utils._rebuild_tensor_v2", tensor_args(*args, **kwargs))


def rebuilt(function="torch._utils._rebuild_tensor_v2", kind="torch.Tensor"):
    """A tensor saved with attributes of its own."""
    args = b"(" + tensor_args() + b"t"
    return call("torch._tensor._rebuild_from_type_v2", named(function), named(kind), args, constant({"foo": 1}))


def state_dict(**items):
    return b"\x80\x02}(" + b"".join(constant(name) + value for name, value in items.items()) + b"u."


def write(path, pickled=None, records=None, top="archive", method=zipfile.ZIP_STORED):
    """Write a torch checkpoint by hand; without arguments, one float tensor `w` of 2 x 2."""
    records = {"byteorder": b"little", "data/0": BYTES_16, "version": b"3\n"} if records is None else records
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{top}/data.pkl", state_dict(w=tensor()) if pickled is None else pickled)
        for name, content in records.items():
            archive.writestr(f"{top}/{name}", content)
    return path


def refusal(path):
    """The message with which a file is refused, which must be one line that names the file."""
    with pytest.raises(InputError) as caught:
        TorchFile(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.fixture
def bin_path(tmp_path):
    return tmp_path / "pytorch_model.bin"


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.torch
class TestWhatTorchWrites:
    """Each test saves with torch and compares with torch.load."""

    @pytest.fixture
    def agrees(self, torch, bin_path):
        def check(state, **options):
            torch.save(state, bin_path, **options)
            expected = torch.load(bin_path, weights_only=False)
            with TorchFile(bin_path) as file:
                assert list(file.tensors) == list(expected)
                for name, tensor in expected.items():
                    array, info = file.read(name), file.tensors[name]
                    assert array.shape == info.shape == tuple(tensor.shape)
                    assert str(tensor.dtype) == f"torch.{info.dtype}"
                    assert array.dtype == info.dtype
                    assert not array.flags.writeable
                    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
                    assert array.tobytes() == raw.tobytes()

        return check

    @pytest.mark.parametrize(
        "dtype", ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
    )
    def test_every_dtype_in_every_layout(self, torch, agrees, dtype):
        base = torch.randint(0, 100, (4, 6)).to(getattr(torch, dtype))
        agrees(
            {
                "contiguous": base,
                "transposed": base.t(),
                "sliced": base[1:3, ::2],
                "column": base[:, 3],
                "permuted": base.reshape(2, 2, 6).permute(2, 0, 1),
                "own storage": base.clone(),
                "expanded": base[0].expand(3, 6),
                "one row": base[:1].expand(1, -1),
                "scalar": base[2, 3],
                "empty": base[:0],
                "empty in the middle": torch.empty(3, 0, 5, dtype=base.dtype),
            }
        )

    def test_module_state_dict_with_its_metadata(self, torch, agrees):
        model = torch.nn.Sequential(
            torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False), torch.nn.BatchNorm1d(5)
        )
        model[1].weight = model[0].weight
        agrees(model.state_dict())
        agrees(model.state_dict(keep_vars=True))

    def test_parameters_and_tensors_with_attributes(self, torch, agrees):
        plain = torch.randn(2, 3)
        marked = torch.randn(2, 3)
        marked.note = "attributes make torch use _rebuild_from_type_v2"
        agrees({"parameter": torch.nn.Parameter(plain), "frozen": torch.nn.Parameter(plain, False), "marked": marked})

    def test_a_newer_pickle_protocol(self, torch, agrees):
        agrees({"weight": torch.randn(2, 3)}, pickle_protocol=4)

    def test_tied_tensors_share_memory(self, torch, bin_path):
        weight = torch.randn(3, 2)
        torch.save({"embed": weight, "head": weight.t()}, bin_path)
        with TorchFile(bin_path) as file:
            assert np.shares_memory(file.read("embed"), file.read("head"))

    def test_the_old_format_is_refused_with_the_way_out(self, torch, bin_path):
        torch.save({"w": torch.zeros(2)}, bin_path, _use_new_zipfile_serialization=False)
        assert "re-save it with torch.save(" in refusal(bin_path)

    @pytest.mark.parametrize("found", ["whole module", "tensor", "optimizer", "sparse", "negated"])
    def test_what_is_not_a_flat_dict_of_plain_tensors_is_refused(self, torch, bin_path, found):
        weight = torch.nn.Parameter(torch.zeros(2))
        value, told = {
            "whole module": (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
            "tensor": (torch.zeros(2), "holds a tensor, not a dict"),
            "optimizer": (torch.optim.SGD([weight]).state_dict(), "key 'state' holds a dict"),
            "sparse": ({"w": torch.eye(2).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
            "negated": ({"w": torch.zeros(2, dtype=torch.complex64).conj().imag}, "resolve_neg"),
        }[found]
        torch.save(value, bin_path)
        assert told in refusal(bin_path)


class TestLayoutsByHand:
    """The same without torch."""

    def test_the_values_of_a_tensor(self, bin_path):
        with TorchFile(write(bin_path)) as file:
            assert file.tensors["w"].shape == (2, 2)
            np.testing.assert_array_equal(file.read("w"), np.frombuffer(BYTES_16, np.float32).reshape(2, 2))

    @pytest.fixture
    def bytes_path(self, bin_path):
        """A checkpoint of bytes, which are aligned wherever they lie."""
        return write(bin_path, state_dict(w=tensor(storage("torch.ByteStorage", numel=16), 0, (4, 4), (4, 1))))

    def test_a_tensor_is_a_read_only_view_of_the_map(self, bytes_path):
        with TorchFile(bytes_path) as file:
            array = file.read("w")
            assert np.shares_memory(array, file.read("w"))
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 1
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True

    def test_arrays_outlive_the_file(self, bytes_path):
        file = TorchFile(bytes_path)
        array = file.read("w")
        file.close()
        file.close()
        assert array.tobytes() == BYTES_16
        with pytest.raises(ValueError, match="closed"):
            file.read("w")

    def test_an_unknown_tensor(self, bin_path):
        with TorchFile(write(bin_path)) as file, pytest.raises(InputError, match="no tensor 'v'"):
            file.read("v")

    @pytest.mark.parametrize("zip64", [False, True])
    @pytest.mark.parametrize("top", ["archive", "pytorch_model", "模型"])
    def test_any_top_folder_and_zip64(self, bin_path, monkeypatch, zip64, top):
        if zip64:
            monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 8)
        write(bin_path, top=top)
        assert (b"PK\x06\x06" in bin_path.read_bytes()) == zip64
        with TorchFile(bin_path) as file:
            assert file.read("w").tobytes() == BYTES_16

    def test_unaligned_bytes_are_copied_into_place(self, bin_path):
        starts = set()
        for top in ("a", "ab", "abc", "abcd"):
            with TorchFile(write(bin_path.with_name(top), top=top)) as file:
                starts.add(bin_path.with_name(top).read_bytes().index(BYTES_16) % 4)
                array = file.read("w")
                assert array.flags.aligned
                assert not array.flags.writeable
                assert array.tobytes() == BYTES_16
        assert starts == {0, 1, 2, 3}

    def test_storages_of_one_record_in_two_dtypes(self, bin_path):
        half = tensor(storage("torch.HalfStorage", numel=8), 4, (2, 2), (1, 2))
        with TorchFile(write(bin_path, state_dict(single=tensor(), half=half))) as file:
            expected = np.frombuffer(BYTES_16, np.float16)[4:].reshape(2, 2).T
            assert file.read("half").tobytes() == expected.tobytes()

    @pytest.mark.parametrize("kind", ["torch.Tensor", "torch.nn.parameter.Parameter"])
    def test_rebuild_from_type(self, bin_path, kind):
        with TorchFile(write(bin_path, state_dict(w=rebuilt(kind=kind)))) as file:
            assert file.read("w").tobytes() == BYTES_16

    def test_the_metadata_of_an_ordered_dict_is_ignored(self, bin_path):
        state = constant({"_metadata": {"": {"version": 1}}, "__class__": "x", "update": None, "items": None})
        pickled = b"\x80\x02" + ORDERED_DICT + constant("w") + tensor() + b"s" + state + b"b."
        with TorchFile(write(bin_path, pickled)) as file:
            assert list(file.tensors) == ["w"]

    def test_the_stride_of_a_single_row_is_arbitrary(self, bin_path):
        pickled = state_dict(w=tensor(None, 0, (1, 4), (2**80, 1)))
        with TorchFile(write(bin_path, pickled)) as file:
            assert file.read("w").tobytes() == BYTES_16

    def test_no_byteorder_record_means_little(self, bin_path):
        with TorchFile(write(bin_path, records={"data/0": BYTES_16})) as file:
            assert file.read("w").tobytes() == BYTES_16


class TestMalice:
    """Code planted in the pickle is refused, and never runs: it would leave a file behind."""

    @staticmethod
    def planted(how, sentinel):
        command = constant(f"touch {sentinel}")
        # The module that os.system is pickled under.
        system = named(f"{os.name}.system")
        code = constant(f"__import__('pathlib').Path({str(sentinel)!r}).touch()")
        run = {
            "system": system + b"(" + command + b"tR",
            "eval": named("builtins.eval") + b"(" + code + b"tR",
            "inst": b"(" + command + b"i" + os.name.encode() + b"\nsystem\n",
            "obj": b"(" + system + command + b"o",
            "newobj": system + command + b"\x85\x81",
            "stack global": constant(os.name) + constant("system") + b"\x93" + command + b"\x85R",
            "dotted attribute": constant("torch") + constant("Tensor.__init__.__globals__") + b"\x93)R",
            "extension": b"\x82\x01" + command + b"\x85R",
        }
        if how == "as the inner function":
            rebuild = "torch._tensor._rebuild_from_type_v2"
            return call(rebuild, system, named("torch.Tensor"), b"(" + command + b"t", constant(None))
        if how == "as a storage type":
            return b"(" + constant("storage") + run["system"] + constant("0") + constant("cpu") + constant(4) + b"tQ"
        if how == "as an attribute":
            return ORDERED_DICT + b"}" + constant("__setstate__") + system + b"sb" + constant({}) + b"b"
        return run[how]

    HOW = (
        "system",
        "eval",
        "inst",
        "obj",
        "newobj",
        "stack global",
        "dotted attribute",
        "extension",
        "as the inner function",
        "as a storage type",
        "as an attribute",
    )

    @pytest.mark.parametrize("how", HOW)
    def test_planted_code_is_refused_unrun(self, bin_path, tmp_path, how):
        sentinel = tmp_path / "sentinel"
        message = refusal(write(bin_path, state_dict(a=tensor(), b=self.planted(how, sentinel))))
        assert "do not trust this file" in message
        if how not in ("extension", "dotted attribute", "eval"):
            assert os.name in message
        assert not sentinel.exists()

    def test_the_plant_would_run_in_pickle(self, tmp_path):
        sentinel = tmp_path / "sentinel"
        pickle.loads(b"\x80\x02" + self.planted("eval", sentinel) + b".")
        assert sentinel.exists()

    @pytest.mark.parametrize(
        "function",
        ["torch._tensor._rebuild_from_type_v2", "collections.OrderedDict", "torch.Tensor", "torch.FloatStorage"],
    )
    def test_only_rebuild_functions_are_inner_functions(self, bin_path, function):
        assert "_rebuild_from_type_v2 in an unknown way" in refusal(write(bin_path, state_dict(w=rebuilt(function))))

    @pytest.mark.parametrize("function", list(torch_file._NAMES))
    def test_unforeseen_calls_of_known_names(self, bin_path, function):
        pickled = state_dict(w=call(function, constant(3), constant(True), ORDERED_DICT))
        assert "in an unknown way" in refusal(write(bin_path, pickled))

    @pytest.mark.parametrize(
        "name", ["torch._utils._rebuild_parameter_with_state", "torch.load", "torch.os.system", "numpy.ndarray"]
    )
    def test_other_globals_are_named(self, bin_path, name):
        assert name in refusal(write(bin_path, state_dict(w=call(name))))

    @pytest.mark.parametrize(
        "bomb",
        [
            pytest.param(b"\x80\x02]r\xff\xff\xff\xff.", id="memo slot 4294967295"),
            pytest.param(b"\x80\x02})" + b"q\x00h\x00\x86" * 200 + b"K\x01s.", id="nested tuples as a key"),
            pytest.param(b"\x80\x02" + b")\x85" * 100_000 + b".", id="deep tuples"),
            pytest.param(b"\x80\x02" + b"(" * 100_000 + b".", id="marks"),
            pytest.param(b"\x80\x02X\xff\xff\xff\x7fa.", id="two gigabytes of text"),
            pytest.param(b"\x80\x02\x8b\xff\xff\xff\x7f1.", id="two gigabytes of number"),
            pytest.param(b"\x80\x02I" + b"9" * 100_000 + b"\n.", id="a decimal number"),
            pytest.param(b"\x80\x02cos\n" + b"a" * 1_000_000 + b"\n.", id="a long name"),
            pytest.param(b"\x80\x02cos\nsys\x1b[2J\rtem\n.", id="a name with control characters"),
            pytest.param(b"\x80\x02}\x94}h\x00h\x00ss.", id="a dict in itself"),
            pytest.param(b"\x80\x02S'\\d'\n.", id="text with an unknown escape"),
        ],
    )
    def test_bombs_fizzle(self, bin_path, bomb):
        assert refusal(write(bin_path, bomb)).isprintable()

    def test_a_pickle_of_unreasonable_size(self, bin_path, monkeypatch):
        monkeypatch.setattr(torch_file, "_LARGEST_PICKLE", 64)
        assert "above the limit of 64" in refusal(write(bin_path))

    def test_torch_is_not_imported(self, bin_path):
        code = f"""
import sys
from pathlib import Path
from jtrace.checkpoints.formats.torch_file import TorchFile
TorchFile(Path({str(write(bin_path))!r})).read("w")
assert "torch" not in sys.modules
"""
        environment = os.environ | {"PYTHONPATH": str(Path(jtrace.__file__).parents[1])}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)


class TestDamage:
    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (b"\x80\x02" + constant([1]) + b".", "holds a list"),
            (b"\x80\x02" + constant(None) + b".", "holds a NoneType"),
            (state_dict(state_dict=b"}" + constant("w") + tensor() + b"s"), "key 'state_dict' holds a dict"),
            (state_dict(w=tensor(), epoch=constant(3)), "key 'epoch' holds a int"),
            (state_dict(w=storage()), "key 'w' holds a Storage"),
            (b"\x80\x02}" + constant(7) + tensor() + b"s.", "key '7' holds a tensor, not a tensor"),
        ],
    )
    def test_anything_but_a_flat_dict_of_tensors(self, bin_path, value, told):
        assert told in refusal(write(bin_path, value))

    @pytest.mark.parametrize(
        ("args", "told"),
        [
            ({"stored": storage(key="1")}, "'data/1' is missing"),
            ({"stored": storage(key="../data.pkl")}, "is missing"),
            ({"stored": storage(numel=5)}, "has 16 bytes, not 5"),
            ({"stored": storage(numel=-4)}, "has 16 bytes, not -4"),
            ({"stored": storage(numel=2**62)}, "has 16 bytes"),
            ({"stored": storage("torch.DoubleStorage")}, "has 16 bytes, not 4"),
            ({"stored": storage(tag="module")}, "storage in an unknown way"),
            ({"stored": storage("torch.Tensor")}, "storage in an unknown way"),
            ({"stored": storage("torch.ComplexFloatStorage")}, "torch.ComplexFloatStorage"),
            ({"stored": constant("x") + b"Q"}, "storage in an unknown way"),
            ({"stored": constant("x")}, "_rebuild_tensor_v2 in an unknown way"),
            ({"offset": 1}, "reaches element 5 of 4"),
            ({"offset": -1}, "impossible"),
            ({"offset": 0.0}, "impossible"),
            ({"shape": (3, 2)}, "reaches element 6 of 4"),
            ({"stride": (3, 1)}, "reaches element 5 of 4"),
            ({"stride": (-2, 1)}, "impossible"),
            ({"stride": (1,)}, "impossible"),
            ({"shape": (-2, 2)}, "impossible"),
            ({"shape": (True, 2)}, "impossible"),
            ({"shape": ("2", 2)}, "impossible"),
            ({"shape": (2**40, 2**40), "stride": (0, 0)}, "impossible"),
            ({"shape": (0, 2**80), "stride": (1, 1)}, "impossible"),
            ({"shape": (1,) * 9, "stride": (1,) * 9}, "impossible"),
            ({"shape": (0,), "stride": (1,), "offset": 5}, "reaches element 5 of 4"),
        ],
    )
    def test_tensors_that_the_file_cannot_hold(self, bin_path, args, told):
        assert told in refusal(write(bin_path, state_dict(w=tensor(**args))))

    def test_a_negated_view(self, bin_path):
        pickled = state_dict(w=tensor(None, 0, (2, 2), (2, 1), {"neg": True}))
        assert "resolve_neg" in refusal(write(bin_path, pickled))

    @pytest.mark.parametrize(
        "pickled",
        [
            *(b"", b".", b"\x80\x02", b"\x80\x02}", b"\x80\x02h\x05.", b"\x80\x02}u.", b"\xff"),
            pytest.param(b"\x80\x02)R.", id="a call of nothing"),
            pytest.param(b"\x80\x02}\x86.", id="a pair of one"),
            pytest.param(b"\x80\x02}(K\x01u.", id="a key without a value"),
            pytest.param(b"\x80\x02]K\x01K\x01s.", id="an item of a list"),
            pytest.param(b"\x80\x02}K\x01a.", id="an element of a dict"),
            pytest.param(b"\x80\x02)}b.", id="attributes of a tuple"),
            pytest.param(b"\x80\x02" + tensor() + b"}b.", id="attributes of a tensor"),
        ],
    )
    def test_broken_pickles(self, bin_path, pickled):
        assert "data.pkl is not a sound pickle" in refusal(write(bin_path, pickled))

    def test_compressed_records(self, bin_path):
        assert "compressed or encrypted" in refusal(write(bin_path, method=zipfile.ZIP_DEFLATED))

    def test_encrypted_records(self, bin_path):
        content = write(bin_path).read_bytes()
        directory = content.index(b"PK\x01\x02")
        bin_path.write_bytes(content[: directory + 8] + b"\x01" + content[directory + 9 :])
        assert "compressed or encrypted" in refusal(bin_path)

    def test_big_endian(self, bin_path):
        assert "little-endian" in refusal(write(bin_path, records={"byteorder": b"big", "data/0": BYTES_16}))

    def test_records_of_one_name(self, bin_path):
        write(bin_path)
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(bin_path, "a") as archive:
            archive.writestr("archive/data/0", BYTES_16)
        assert "share a name" in refusal(bin_path)

    def test_two_pickles(self, bin_path):
        assert "has 2 data.pkl" in refusal(write(bin_path, records={"x/data.pkl": b"", "data/0": BYTES_16}))

    def test_a_zip_of_something_else(self, bin_path):
        with zipfile.ZipFile(bin_path, "w") as archive:
            archive.writestr("hello.txt", "hello")
        assert "has 0 data.pkl" in refusal(bin_path)

    @pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"version https://git-lfs.github.com/spec/v1\n"])
    def test_files_that_are_no_archive(self, bin_path, content):
        bin_path.write_bytes(content)
        refusal(bin_path)

    def test_a_missing_file_and_a_folder(self, bin_path, tmp_path):
        assert "no such file" in refusal(bin_path)
        assert "no such file" in refusal(tmp_path)

    def test_a_directory_that_points_to_another_record(self, bin_path):
        content = bytearray(write(bin_path).read_bytes())
        entry = content.index(b"archive/data/0", content.index(b"PK\x01\x02")) - 46
        content[entry + 42 : entry + 46] = bytes(4)
        bin_path.write_bytes(content)
        assert "not where the zip directory says" in refusal(bin_path)

    @pytest.mark.parametrize("damage", [b"PK\x05\x06", b"PK\x03\x04\x14\0\0\0\x08"], ids=["magic", "compressed"])
    def test_a_record_whose_own_header_disagrees(self, bin_path, damage):
        content = bytearray(write(bin_path).read_bytes())
        header = content.index(b"archive/data/0") - 30
        content[header : header + len(damage)] = damage
        bin_path.write_bytes(content)
        assert "not where the zip directory says" in refusal(bin_path)

    def test_a_record_longer_than_the_file(self, bin_path):
        content = bytearray(write(bin_path, records={"data/0": BYTES_16}).read_bytes())
        entry = content.index(b"archive/data/0", content.index(b"PK\x01\x02")) - 46
        content[entry + 20 : entry + 28] = (2**30).to_bytes(4, "little") * 2
        bin_path.write_bytes(content)
        assert "not where the zip directory says" in refusal(bin_path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    pickled = b"\x80\x02" + ORDERED_DICT + b"(" + constant("w") + tensor() + constant("t") + rebuilt() + b"u"
    plant = TestMalice.planted("system", folder / "sentinel")
    return {
        "sentinel": folder / "sentinel",
        "plain": write(folder / "plain", pickled + constant({"_metadata": {}}) + b"b.").read_bytes(),
        "planted": write(folder / "planted", state_dict(a=plant, w=tensor())).read_bytes(),
    }


def survives(content):
    """Reading damaged bytes gives arrays of the shape that was announced, or an InputError: nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pytorch_model.bin")
        path.write_bytes(content)
        message = ""
        try:
            with TorchFile(path) as file:
                for name, info in file.tensors.items():
                    array = file.read(name)
                    assert (array.shape, array.dtype) == (info.shape, info.dtype)
                    array.tobytes()
        except InputError as error:
            message = str(error)
        assert "\n" not in message


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["plain", "planted"]))
def test_flipped_bytes(sound, data, kind):
    content = bytearray(sound[kind])
    flips = st.dictionaries(st.integers(0, len(content) - 1), st.integers(0, 255), min_size=1, max_size=4)
    for position, value in data.draw(flips).items():
        content[position] = value
    survives(bytes(content))
    assert not sound["sentinel"].exists()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_of_the_pickle(sound, data):
    """The pickle is a small part of the file, so it gets flips of its own."""
    content = bytearray(sound["plain"])
    start = content.index(b"\x80\x02")
    end = content.index(b"PK\x03\x04", start)
    flips = st.dictionaries(st.integers(start, end - 1), st.integers(0, 255), min_size=1, max_size=3)
    for position, value in data.draw(flips).items():
        content[position] = value
    survives(bytes(content))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_truncated_files(sound, data):
    content = sound["plain"]
    survives(content[: data.draw(st.integers(0, len(content) - 1))])
