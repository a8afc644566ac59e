"""Small files are regular, small, and of the form that is asked for; else they are refused in one line, at once."""

import os
import socket

import pytest

from jtrace.errors import InputError
from jtrace.runtime.small_files import MissingFileError, parse_json, read_json, read_json_object, read_small, read_text


def told(call, *args, **named) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **named)
    assert str(error.value).isprintable()
    return str(error.value)


def test_pipes_devices_sockets_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "socket: cannot be read" in told(read_small, tmp_path / "socket")
    assert "pipe: cannot be read (Is a pipe)" in told(read_small, tmp_path / "pipe")
    assert "endless: cannot be read (Is a device)" in told(read_small, tmp_path / "endless")
    assert f"{tmp_path}: cannot be read (Is a directory)" in told(read_small, tmp_path)
    assert "no path" in told(read_small, tmp_path / "a\0b")


def test_what_is_missing_is_told_apart(tmp_path):
    with pytest.raises(MissingFileError):
        read_small(tmp_path / "none")
    with pytest.raises(MissingFileError):
        read_small(tmp_path / "none" / "none")


def test_a_larger_file_is_refused_before_it_is_in_memory(tmp_path):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 1 << 40)
    assert "has more than the 67.1 MB that such a file may have; mend it" in told(read_small, path, remedy="mend it")
    path.write_bytes(b"four")
    assert read_small(path, 4) == b"four"
    assert "has more than" in told(read_small, path, 3)


def test_text_is_utf_8(tmp_path):
    (tmp_path / "a").write_bytes("grün".encode("latin-1"))
    assert "a: is not UTF-8; copy it again" in told(read_text, tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "Expecting value"),
        ("[" * 1_000_000, "nested too deeply"),
        ("[" * 65 + "]" * 65, "nested too deeply"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[" + "9" * 5000 + "]", "Exceeds the limit"),
    ],
)
def test_other_json_is_refused(tmp_path, text, cause):
    (tmp_path / "a.json").write_text(text)
    message = told(read_json, tmp_path / "a.json")
    assert message.startswith(f"{tmp_path / 'a.json'}: is not JSON ({cause}")
    assert message.endswith("; copy it again from where it came")


def test_rows_of_data_may_have_numbers_that_are_none():
    assert str(parse_json('{"a": [NaN, Infinity, 1e999]}', finite=False)) == "{'a': [nan, inf, inf]}"


def test_an_object_is_asked_for(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    assert "a.json: holds a list, not a JSON object" in told(read_json_object, tmp_path / "a.json")
