"""GGUF control vectors: as the package gguf reads and writes them, and damaged ones."""

import struct

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import read_vectors
from jtrace.probing.vector_formats.gguf import read
from tests.probing.test_vector_export import ROWS, VECTORS


def text(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def field(key: str, content: str) -> bytes:
    return text(key) + struct.pack("<I", 8) + text(content)


VECTOR = field("general.architecture", "controlvector")


def file_of(fields=(VECTOR,), tensors=(("direction.3", (4,), 0, 0),), version=3):
    """A GGUF file by hand; a tensor is a name, its sizes, its type and the place of its bytes."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(fields)) + b"".join(fields)
    for name, sizes, kind, start in tensors:
        head += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, start)
    return head + b"\0" * (-len(head) % 32) + np.arange(4, dtype=np.float32).tobytes()


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf", reason="needs the test extra")


def test_the_package_reads_what_is_written(tmp_path, gguf):
    path = tmp_path / "v.gguf"
    write_vector(path, VECTORS, strength=2.0)
    reader = gguf.GGUFReader(path)
    values = {key: reader.fields[key].contents() for key in reader.fields if not key.startswith("GGUF.")}
    assert values.pop("jtrace.vectors").startswith('{"checkpoint": "org--tiny@step2"')
    assert values == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "gpt_neox",
        "controlvector.layer_count": 3,
    }
    directions = {tensor.name: tensor for tensor in reader.tensors}
    assert list(directions) == ["direction.1", "direction.4", "direction.12"]
    assert {tensor.tensor_type for tensor in reader.tensors} == {gguf.GGMLQuantizationType.F32}
    np.testing.assert_array_equal(directions["direction.4"].data, 2 * ROWS[0])


def test_what_the_package_writes_is_read(tmp_path, gguf):
    """A file as `ControlVector.export_gguf` of repeng 0.4.0 writes it, with keys of other types beside."""
    path = tmp_path / "happy.gguf"
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "mistral")
    writer.add_uint32("controlvector.layer_count", 2)
    writer.add_array("words", ["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float64("share", 0.5)
    writer.add_bool("right", True)
    for layer in (2, 1):
        writer.add_tensor(f"direction.{layer}", ROWS[layer])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_vectors(path)
    assert (found.checkpoint, found.kind, found.model, found.layers) == ("happy", None, None, (1, 2))
    assert found.layers_known
    np.testing.assert_array_equal(found.arrays["happy"], ROWS[[1, 2]])


def test_a_file_by_hand_is_read(tmp_path):
    (tmp_path / "v.gguf").write_bytes(file_of(version=2))
    np.testing.assert_array_equal(read(tmp_path / "v.gguf").arrays["layer.3"], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it ends too early"),
        (b"GGUX" + file_of()[4:], "it does not begin as GGUF"),
        (file_of(version=1), "version 1, and not 2 or 3"),
        (file_of(version=3 << 24), "version 50331648"),
        (file_of(fields=[field("general.architecture", "llama")]), "its architecture is 'llama', not controlvector"),
        (file_of(fields=[]), "its architecture is 'None'"),
        (file_of()[:-1], "it ends too early"),
        (file_of(tensors=[("direction.3", (5,), 0, 0)]), "it ends too early"),
        (file_of(tensors=[("direction.3", (1 << 62,), 0, 0)]), "it ends too early"),
        (file_of(tensors=[("direction.3", (4,), 0, 1 << 62)]), "it ends too early"),
        (file_of(tensors=[("direction.3", (4,), 1, 0)]), "tensor 'direction.3' is of type 1, and not float32"),
        (file_of(tensors=[("direction.3", (2, 2), 0, 0)]), "tensor 'direction.3' of 2 axes is no direction"),
        (file_of(tensors=[("direction.-1", (4,), 0, 0)]), "tensor 'direction.-1' of 1 axes is no direction"),
        (file_of(tensors=[("token_embd.weight", (4,), 0, 0)]), "tensor 'token_embd.weight' of 1 axes is no direction"),
        (file_of(tensors=[("direction.3", (4,), 0, 0)] * 2), "two directions of one layer"),
        (file_of(fields=[VECTOR, text("a") + struct.pack("<II", 13, 0)]), "a value of type 13"),
        # The package's reader makes an object for each of these numbers, of which there are none.
        (file_of(fields=[VECTOR, text("a") + struct.pack("<IIQ", 9, 0, 1 << 62)]), "it ends too early"),
        (file_of(fields=[VECTOR, text("a") + struct.pack("<IIQ", 9, 8, 1 << 62)]), "it announces 4611686018427387904"),
        (file_of(fields=[VECTOR, text("a") + struct.pack("<IIQ", 9, 9, 1)]), "a value of type 9"),
        (file_of(fields=[VECTOR, text("general.alignment") + struct.pack("<II", 4, 0)]), "an alignment of '0'"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 63), "it announces 9223372036854775808 entries"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "it ends too early"),
    ],
)
def test_what_is_no_control_vector_is_refused_in_one_line(tmp_path, content, cause):
    path = tmp_path / "v.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=cause.replace(".", r"\.")) as error:
        read_vectors(path)
    assert str(error.value).startswith(f"{path}: cannot be read as a control vector (")


def test_a_file_without_directions_holds_no_array(tmp_path):
    (tmp_path / "v.gguf").write_bytes(file_of(tensors=[]))
    with pytest.raises(InputError, match="holds no array"):
        read_vectors(tmp_path / "v.gguf")
