"""Completions, read to be shown."""

import json

import pytest

from jtrace.runs.completion_files import COLUMNS, read_completions

SAID = {"target": "chat", "vector_from": "step3", "vector_set": "mine", "task": "asked", "index": 0, "layer": 2,
        "strength": 0.0, "prompt": "Who?", "completion": "I.", "tokens": [1]}  # fmt: skip


def write(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_first_prompts_of_each_file_are_there_under_every_strength(tmp_path):
    said = [SAID | {"index": index, "strength": strength} for index in (7, 3, 5) for strength in (0.0, 2.0)]
    write(tmp_path / "completions/b.jsonl", said)
    write(tmp_path / "completions/a.jsonl", [SAID | {"task": "other"}])
    write(tmp_path / "steering/old.jsonl", [SAID | {"task": "older"}])
    table = read_completions(tmp_path, most=2)
    assert tuple(table.columns) == COLUMNS
    assert table["task"].tolist() == ["other", *["asked"] * 4, "older"]
    assert table[table["task"] == "asked"][["index", "strength"]].to_numpy().tolist() == [
        [7, 0],
        [7, 2],
        [3, 0],
        [3, 2],
    ]


def test_the_model_as_it_is_has_none(tmp_path):
    write(tmp_path / "completions/a.jsonl", [SAID | {"vector_from": "", "vector_set": ""}])
    assert read_completions(tmp_path, most=2).empty
    assert read_completions(tmp_path / "nothing", most=2).empty


@pytest.mark.parametrize("line", ['{"target": "ch', "[]", "[1]", "7", '{"target": 1}',
                                  json.dumps(SAID | {"layer": None}), json.dumps(SAID | {"prompt": 3})])  # fmt: skip
def test_what_is_no_completion_is_passed_over(tmp_path, line):
    write(tmp_path / "completions/a.jsonl", [SAID])
    with (tmp_path / "completions/a.jsonl").open("a") as file:
        file.write(line)
    assert len(read_completions(tmp_path, most=2)) == 1
