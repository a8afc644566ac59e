"""The files of steering: named after what decides their numbers, whole or cut off where a process died, merged."""

import json
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from jtrace.errors import InputError
from jtrace.runs.steering_files import SCHEMA, TIME_KEY, SteeringTable, latest, merged, move_completions
from tests.tables import steered

NAMES = ("org/chat", "base@step7", "stereoset+-0.5*toxigen", "stereoset")
LINES = [
    {"index": index, "layer": layer, "strength": strength, "tokens": [index, layer], "completion": "ü\u2028"}
    for index in (3, 4)
    for layer, strength in ((1, -0.5), (2, 1.0))
]


@pytest.fixture
def unit(tmp_path):
    (tmp_path / "steering").mkdir()
    return SteeringTable(tmp_path / "steering", NAMES, {"seed": 0, "operator": "add"})


def rows(values=(0.5, 0.7), **others):
    return steered(dict(enumerate(values)), **others)


# Names


def test_files_are_named_after_target_source_set_and_task(unit, tmp_path):
    assert (unit.table_path.parent, unit.completions_path.parent) == (tmp_path / "steering", tmp_path / "completions")
    assert unit.table_path.name.startswith("org-chat__base@step7__stereoset+-0.5-toxigen__stereoset__")
    assert (unit.table_path.suffix, unit.completions_path.suffix) == (".parquet", ".jsonl")
    assert unit.table_path.stem == unit.completions_path.stem


def test_long_names_are_cut_and_stay_apart(unit):
    long = [replace(unit, names=(*NAMES[:2], "+".join([*60 * ["stereoset"], end]), NAMES[3])) for end in "ab"]
    names = [one.table_path.name for one in long]
    assert all(len(name) < 220 and name.startswith("org-chat__base@step7__stereoset+stereoset+") for name in names)
    assert names[0] != names[1]


def test_settings_name_other_files_and_their_order_does_not(unit):
    assert replace(unit, settings={"operator": "add", "seed": 0}).table_path == unit.table_path
    other = replace(unit, settings={"operator": "add", "seed": 1})
    assert other.table_path != unit.table_path
    assert other.completions_path != unit.completions_path


def test_another_judge_or_answer_makes_another_table_of_the_same_completions(unit):
    judged = replace(unit, measured="another judge")
    assert judged.table_path != unit.table_path
    assert judged.completions_path == unit.completions_path


@pytest.mark.parametrize("name", ["", "a b/c", "../..", "x:random", "ü"])
def test_any_name_makes_a_file_name(tmp_path, name):
    stem = SteeringTable(tmp_path, (name, name, name, name), {}).table_path.stem
    assert stem.isascii()
    assert not set("/: ") & set(stem)
    assert all(stem.split("__"))


# Tables


def test_a_table_reads_as_it_was_written_and_has_the_contract_s_columns(unit):
    assert unit.read_table().empty
    unit.write_table(rows(), "2026-01-02T03:04:05")
    assert pd.read_parquet(unit.table_path).columns.tolist() == [
        "target", "vector_from", "vector_set", "layer", "strength", "positions", "task", "metric", "value", "ci_low",
        "ci_high", "n", "protocol", "seed",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(unit.read_table(), rows(), check_dtype=False)
    assert pq.read_schema(unit.table_path).metadata[TIME_KEY] == b"2026-01-02T03:04:05"


def test_intervals_that_are_not_known_stay_so(unit):
    unit.write_table(rows().assign(ci_low=None, ci_high=float("nan")), "")
    assert unit.read_table()[["ci_low", "ci_high"]].isna().all(axis=None)


def test_a_damaged_table_is_made_anew(unit):
    unit.write_table(rows(), "")
    unit.table_path.write_bytes(unit.table_path.read_bytes()[:60])
    assert unit.read_table().columns.tolist() == SCHEMA.names
    assert unit.read_table().empty


def test_a_table_that_cannot_be_written_leaves_the_old_one(unit, monkeypatch):
    unit.write_table(rows(), "")
    before = unit.table_path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.runs.steering_files.pq.write_table", full)
    with pytest.raises(InputError, match=r"\.parquet: cannot be written \(No space left on device\)"):
        unit.write_table(rows([0.1]), "")
    assert unit.table_path.read_bytes() == before
    assert [path.name for path in unit.folder.iterdir()] == [unit.table_path.name]


# Completions


def test_completions_are_lines_and_read_by_setting_and_index(unit):
    assert unit.read_completions() == {}
    unit.append(LINES[:3])
    unit.append(LINES[3:])
    assert [json.loads(line) for line in unit.completions_path.read_text(encoding="utf-8").split("\n")[:-1]] == LINES
    assert unit.read_completions() == {
        ((1, -0.5), 3): [3, 1],
        ((2, 1.0), 3): [3, 2],
        ((1, -0.5), 4): [4, 1],
        ((2, 1.0), 4): [4, 2],
    }


@pytest.mark.parametrize("lost", [1, 5, 70])
def test_a_line_that_was_cut_off_is_dropped_and_the_next_one_begins_anew(unit, lost):
    unit.append(LINES)
    content = unit.completions_path.read_bytes()
    unit.completions_path.write_bytes(content[:-lost])
    assert list(unit.read_completions()) == [((1, -0.5), 3), ((2, 1.0), 3), ((1, -0.5), 4)]
    unit.append(LINES[3:])
    assert unit.completions_path.read_bytes() == content


@pytest.mark.parametrize("line", ["{", "[]", '{"index": 1, "layer": 1, "strength": 0.0}', '{"tokens": 3}', "null", ""])
def test_a_line_in_the_middle_that_cannot_be_read_is_named_and_left_alone(unit, line):
    unit.append(LINES[:1])
    with unit.completions_path.open("a") as file:
        file.write(line + "\n")
    unit.append(LINES[1:])
    before = unit.completions_path.read_bytes()
    with pytest.raises(InputError, match=r"\.jsonl, line 2: cannot be read; delete this line, or the file"):
        unit.read_completions()
    assert unit.completions_path.read_bytes() == before


def test_completions_that_an_earlier_release_left_beside_the_tables_are_moved_and_go_on(unit):
    unit.append(LINES)
    beside = unit.folder / unit.completions_path.name
    unit.completions_path.rename(beside)
    unit.completions_path.parent.rmdir()
    move_completions(unit.folder)
    assert not beside.exists()
    assert len(unit.read_completions()) == len(LINES)
    # What has been said since is not given up for older lines.
    beside.write_text("")
    move_completions(unit.folder)
    assert len(unit.read_completions()) == len(LINES)


def test_a_place_where_nothing_can_be_written_is_told_in_one_line(tmp_path):
    unit = SteeringTable(tmp_path / "nowhere/steering", NAMES, {})
    with pytest.raises(InputError, match=r"\.jsonl: cannot be written \(No such file or directory\)"):
        unit.append(LINES)


# Merging


def test_of_rows_of_one_name_the_later_one_counts():
    first, second = rows([0.1]), rows([0.2, 0.3])
    assert merged([first, second])["value"].tolist() == [0.2, 0.3]
    assert merged([second, first])["value"].tolist() == [0.3, 0.1]


def test_what_other_settings_measured_is_taken_whole_from_the_latest_table():
    first, second = rows([0.1, 0.2, 0.3]), rows([0.4], n=10)
    assert latest([first, second])["value"].tolist() == [0.4]
    assert latest([second, first])["value"].tolist() == [0.1, 0.2, 0.3]
    assert len(latest([first, second.assign(protocol="sound")])) == 4


@pytest.mark.parametrize(
    ("column", "other"),
    [
        ("target", "x"), ("vector_from", "x"), ("vector_set", "x"), ("layer", 9), ("strength", 9.0),
        ("positions", "all"), ("task", "x"), ("metric", "x"), ("protocol", "sound"), ("seed", 9),
    ],
)  # fmt: skip
def test_rows_that_differ_in_what_names_them_are_both_kept(column, other):
    assert len(merged([rows([0.1]), rows([0.2]).assign(**{column: other})])) == 2


def test_nothing_merges_to_nothing():
    empty = rows().iloc[:0]
    assert merged([empty, empty]).columns.tolist() == SCHEMA.names
    assert len(merged([empty, rows()])) == 2
