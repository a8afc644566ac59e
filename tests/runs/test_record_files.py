"""Records of runs, and how two of them differ."""

import json

from jtrace.runs.record_files import differences, is_new, read_run_record, write_record

RECORD = {"config": {"dtype": "float32"}, "data": {}, "checkpoints": [], "commands": []}


def test_differences_are_told_key_by_key_and_what_is_missing_is_none():
    assert differences({"b": 1, "a": [1], "same": 0}, {"b": 2, "c": "new", "same": 0}) == [
        ("a", [1], None),
        ("b", 1, 2),
        ("c", None, "new"),
    ]
    assert differences({"a": 1}, {"a": 1}) == []


def test_a_record_is_read_as_it_was_written_and_other_files_are_none(tmp_path):
    path = tmp_path / "run.json"
    assert read_run_record(path) is None
    write_record(path, RECORD)
    assert read_run_record(path) == RECORD
    for text in ("{", json.dumps([1]), json.dumps(RECORD | {"config": []})):
        path.write_text(text)
        assert read_run_record(path) is None


def test_a_run_begins_where_nothing_but_hidden_files_is(tmp_path):
    assert is_new(tmp_path / "missing")
    (tmp_path / ".run.json.1.tmp").touch()
    assert is_new(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not is_new(tmp_path)
    assert not is_new(tmp_path / "notes.txt")
