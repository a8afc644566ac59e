"""numpy archives of vectors: as numpy reads and writes them, and what is refused."""

import io
import zipfile

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import read_vectors
from tests.probing.test_vector_export import ROWS, VECTORS


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def write(path, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_numpy_reads_what_is_written(tmp_path):
    write_vector(tmp_path / "v.npz", VECTORS, strength=3.0)
    with np.load(tmp_path / "v.npz", allow_pickle=False) as archive:
        assert archive.files == ["layer.1", "layer.4", "layer.12", "jtrace"]
        np.testing.assert_array_equal(archive["layer.4"], np.float32(3) * ROWS[0])
        assert '"strength": 3.0' in str(archive["jtrace"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_by_layer_or_by_set(tmp_path, save):
    save(tmp_path / "mine.npz", **{"layer.10": ROWS[0].astype(np.float64), "layer.9": ROWS[1].astype(np.float64)})
    by_layer = read_vectors(tmp_path / "mine.npz")
    assert (by_layer.layers, list(by_layer.arrays)) == ((9, 10), ["mine"])
    np.testing.assert_array_equal(by_layer.arrays["mine"], ROWS[[1, 0]])
    save(tmp_path / "sets.npz", a=np.asfortranarray(ROWS), b=-ROWS)
    by_set = read_vectors(tmp_path / "sets.npz")
    assert (by_set.layers, by_set.layers_known, list(by_set.arrays)) == ((0, 1, 2), False, ["a", "b"])
    np.testing.assert_array_equal(by_set.arrays["a"], ROWS)


def pickled() -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, np.array([{"a": 1}], object), allow_pickle=True)
    return made.getvalue()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"


@pytest.mark.parametrize(
    ("entry", "cause"),
    [
        (b"", "cannot be read as vectors"),
        (b"\x93NUMPY\x09\x00" + bytes(20), r"arrays of version \(9, 0\)"),
        (pickled(), "an array of object"),
        (npy(HEADER % "2,", bytes(4)), r"4 bytes for an array of shape \[2\]"),
        (npy(HEADER % f"{1 << 60},"), "0 bytes for an array of shape"),
        (npy(HEADER % "-1,", bytes(8)), r"8 bytes for an array of shape \[-1\]"),
        (npy(HEADER.replace("<f4", "<V4") % "1,", bytes(4)), r"an array of \|V4"),
        (npy(HEADER.replace("<f4", "<U1") % "", b"a\0\xff\0"), "a text with characters that Unicode does not have"),
        (npy(HEADER.replace("<f4", ">U1") % "", b"\0\xff\0a"), "a text with characters that Unicode does not have"),
        (npy("__import__('os').system('touch executed')"), "cannot be read as vectors"),
        (npy("(" * 5000), "cannot be read as vectors"),
    ],
)
def test_a_damaged_array_is_refused_in_one_line(tmp_path, monkeypatch, entry, cause):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "v.npz", **{"layer.1": entry})
    with pytest.raises(InputError, match=cause) as error:
        read_vectors(path)
    assert str(error.value).startswith(f"{path}: ")
    assert not (tmp_path / "executed").exists()


def test_an_archive_that_stands_for_much_more_is_not_unpacked(tmp_path):
    path = write(tmp_path / "v.npz", **{"layer.1": npy(HEADER % f"{1 << 25},", bytes(1 << 27))})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match=r"stands for 1 arrays of 1342\d+ bytes, above"):
        read_vectors(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x" * 100])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "v.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"v\.npz: cannot be read as vectors"):
        read_vectors(tmp_path / "v.npz")


def test_damaged_metadata_is_refused(tmp_path):
    for about, cause in (("{", "cannot be read as vectors"), ("[1]", "metadata 'jtrace' is damaged")):
        np.savez(tmp_path / "v.npz", **{"layer.1": ROWS[0], "jtrace": about})
        with pytest.raises(InputError, match=cause):
            read_vectors(tmp_path / "v.npz")
    # A text of codes that are no characters fails in Python's JSON itself.
    codes = npy(HEADER.replace("<f4", "<U3") % "", np.array([0x22, 0xFF0061, 0x22], "<u4").tobytes())
    layer = npy(HEADER % "4,", np.ones(4, "<f4").tobytes())
    with pytest.raises(InputError, match="Unicode does not have"):
        read_vectors(write(tmp_path / "codes.npz", **{"layer.1": layer, "jtrace": codes}))
