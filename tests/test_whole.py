"""What is written is there whole or not at all."""

import os

import pytest

from jtrace.errors import InputError
from jtrace.whole import folder_written_whole, written_whole


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way():
        with written_whole(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_appears_with_all_its_files(tmp_path):
    with folder_written_whole(tmp_path / "new") as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "file").write_text("content")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "sub" / "file").read_text() == "content"
    assert os.listdir(tmp_path) == ["new"]


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path):
    def fail_half_way():
        with folder_written_whole(tmp_path / "new") as aside:
            (aside / "file").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_holds_something_is_not_replaced(tmp_path):
    (tmp_path / "kept").write_text("kept")

    def write_over():
        with folder_written_whole(tmp_path) as aside:
            (aside / "file").write_text("other")

    with pytest.raises(InputError, match="exists already; name a new or empty folder"):
        write_over()
    assert os.listdir(tmp_path) == ["kept"]


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")

    def write_below_a_file():
        with folder_written_whole(tmp_path / "file" / "new"):
            pass

    with pytest.raises(InputError, match="cannot be written"):
        write_below_a_file()
