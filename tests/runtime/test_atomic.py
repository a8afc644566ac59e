"""What is written is there whole or not at all."""

import os
import subprocess
import sys

import pytest

from jtrace.errors import InputError, WriteError
from jtrace.runtime.atomic import atomic_folder, atomic_write, sweep_up


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way():
        with atomic_write(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_appears_with_all_its_files(tmp_path):
    with atomic_folder(tmp_path / "new") as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "file").write_text("content")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "sub" / "file").read_text() == "content"
    assert os.listdir(tmp_path) == ["new"]


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path):
    def fail_half_way():
        with atomic_folder(tmp_path / "new") as aside:
            (aside / "file").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_holds_something_is_not_replaced(tmp_path):
    (tmp_path / "kept").write_text("kept")

    def write_over():
        with atomic_folder(tmp_path) as aside:
            (aside / "file").write_text("other")

    with pytest.raises(InputError, match="exists already; name a new or empty folder"):
        write_over()
    assert os.listdir(tmp_path) == ["kept"]


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")

    def write_below_a_file():
        with atomic_folder(tmp_path / "file" / "new"):
            pass

    with pytest.raises(InputError, match="cannot be written"):
        write_below_a_file()


def test_what_a_killed_process_left_aside_is_swept_up_and_nothing_else(tmp_path):
    code = """
import os, sys
from pathlib import Path
from jtrace.runtime.atomic import atomic_folder, atomic_write
here = Path(sys.argv[1])
with atomic_folder(here / "sub/folder") as folder, atomic_write(here / "file") as file:
    (folder / "part").write_text("half")
    file.write_text("half")
    os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (tmp_path / ".mine.tmp").write_text("somebody's")
    assert len(os.listdir(tmp_path)) == 3
    assert len(os.listdir(tmp_path / "sub")) == 1
    with atomic_write(tmp_path / "going on") as aside:
        aside.write_text("half")
        sweep_up(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "going on", "sub"]
    assert os.listdir(tmp_path / "sub") == []


def test_the_next_writer_of_a_folder_removes_what_a_killed_one_left_of_it(tmp_path):
    code = """
import os, sys
from pathlib import Path
from jtrace.runtime.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "part").write_text("half")
    os._exit(9)
"""
    for name in ("a [1]", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    assert len(os.listdir(tmp_path)) == 2
    with atomic_folder(tmp_path / "a [1]") as folder:
        (folder / "part").write_text("whole")
    assert [(tmp_path / name).is_dir() for name in ("a [1]", "b")] == [True, False]
    assert len(os.listdir(tmp_path)) == 2  # what was left of b stays for its own writer


def test_a_disk_that_takes_nothing_is_named_with_the_file(tmp_path):
    (tmp_path / "gone").mkdir()

    def write():
        with atomic_write(tmp_path / "gone" / "file") as aside:
            (tmp_path / "gone").rmdir()
            aside.write_text("content")

    with pytest.raises(WriteError, match=r"gone/file: cannot be written \(No such file or directory\)"):
        write()
