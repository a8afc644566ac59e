"""Opening a run directory: one configuration, one set of data, and a record of what ran."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from jtrace.errors import InputError
from jtrace.runs.open_run import open_run, open_steering
from jtrace.runs.run_directory import RunDirectory
from tests.tables import REF, write_traced

CONFIG, DATA = {"dtype": "float32", "layers": "all"}, {"set": "abc"}


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run", CONFIG, DATA, [REF.name])


def test_a_disk_that_is_full_at_the_start_leaves_a_directory_that_can_be_begun_again(tmp_path, monkeypatch):

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("jtrace.runtime.atomic._flush", full)
        with pytest.raises(InputError, match=r"run\.json: cannot be written"):
            open_run(tmp_path / "run", CONFIG, DATA, [REF.name])
    open_run(tmp_path / "run", CONFIG, DATA, [REF.name])


def test_a_run_in_use_refuses_another_configuration_before_its_first_table(tmp_path):
    with ExitStack() as hold:
        open_run(tmp_path / "run", CONFIG, DATA, [], hold=hold)
        with pytest.raises(InputError, match=r"dtype was .* in this run"):
            open_run(tmp_path / "run", CONFIG | {"dtype": "bfloat16"}, DATA, [])
        open_run(tmp_path / "run", CONFIG, DATA, [])
    open_run(tmp_path / "run", CONFIG | {"dtype": "bfloat16"}, DATA, [])


def test_the_same_configuration_takes_a_run_up_and_adds_checkpoints(run):
    again = open_run(run.path, CONFIG, DATA, ["other"])
    record = json.loads((again.path / "run.json").read_text())
    assert record["checkpoints"] == [REF.name, "other"]
    assert [command["checkpoints"] for command in record["commands"]] == [[REF.name], ["other"]]
    assert {"python", "jax", "jtrace"} <= record["commands"][0]["versions"].keys()
    assert record["commands"][0]["device"]["platform"]


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (CONFIG | {"dtype": "bfloat16"}, DATA, 'dtype was "float32" in this run and is "bfloat16" now'),
        (CONFIG, {"set": "xyz"}, 'data of set was "abc" in this run and is "xyz" now'),
        (CONFIG, DATA | {"more": "1"}, 'data of more was null in this run and is "1" now'),
    ],
)
def test_another_configuration_or_other_data_is_refused_with_the_difference(run, config, data, message):
    write_traced(run)
    with pytest.raises(InputError) as error:
        open_run(run.path, config, data, [])
    assert message in str(error.value)


def test_a_run_that_has_traced_nothing_takes_another_configuration(run):
    again = open_run(run.path, CONFIG | {"layers": [1]}, {"set": "xyz"}, [])
    assert json.loads((again.path / "run.json").read_text())["config"]["layers"] == [1]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"config": [], "data": {}, "checkpoints": [], "commands": []}'])
def test_a_damaged_record_is_refused(run, content):
    (run.path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"no readable run\.json"):
        open_run(run.path, CONFIG, DATA, [])


def test_damaged_notes_on_failures_stop_the_run_before_it_starts(run):
    (run.path / "failures.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"failures\.jsonl: not readable"):
        open_run(run.path, CONFIG, DATA, [])


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files and no readable run\.json"):
        open_run(tmp_path, CONFIG, DATA, [])
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError):
        open_run(tmp_path / "run", CONFIG, DATA, [])


def test_an_unwritable_place_is_refused():
    with pytest.raises(InputError, match="cannot be written"):
        open_run(Path("/proc/jtrace"), CONFIG, DATA, [])


def test_the_record_tells_the_command_and_the_sets(tmp_path):
    open_run(tmp_path / "run", CONFIG, DATA, [], {"set": {"rows": 40}})
    record = RunDirectory(tmp_path / "run").record()
    assert record["sets"] == {"set": {"rows": 40}}
    assert record["commands"][0]["command"]


def test_the_record_of_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run directory"):
        RunDirectory(tmp_path / "nothing").record()


# Steering


def test_steering_in_a_traced_run_leaves_its_record_and_is_noted_beside_it(run):
    write_traced(run)
    before = run.record()
    open_steering(run.path, "chat")
    open_steering(run.path, "chat")
    after = run.record()
    assert {key: after[key] for key in before} == before
    assert [command["checkpoints"] for command in after["steering_commands"]] == [["chat"], ["chat"]]
    assert {"time", "command", "device", "versions"} <= after["steering_commands"][0].keys()
    assert (run.path / "steering").is_dir()


def test_tracing_in_a_run_that_was_steered_keeps_what_steered_it(tmp_path):
    open_steering(tmp_path / "run", "chat")
    steering = RunDirectory(tmp_path / "run").record()["steering_commands"]
    for _ in range(2):
        run = open_run(tmp_path / "run", CONFIG, DATA, [REF.name])
    record = run.record()
    assert record["steering_commands"] == steering
    assert (record["config"], record["checkpoints"], len(record["commands"])) == (CONFIG, [REF.name], 2)


def test_a_run_that_was_only_steered_is_a_run(tmp_path):
    run = open_steering(tmp_path / "run", "chat")
    record = run.record()
    assert (record["config"], record["data"], record["checkpoints"], record["commands"]) == ({}, {}, [], [])
    assert run.read_metrics().empty
    assert run.read_steering().empty


def test_steering_in_a_folder_that_is_no_run_is_refused_and_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files and no readable run\.json"):
        open_steering(tmp_path, "chat")
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(InputError, match=r"thesis\.tex: holds other files|cannot be written"):
        open_steering(tmp_path / "thesis.tex", "chat")
    with pytest.raises(InputError, match="cannot be written"):
        open_steering(Path("/proc/jtrace"), "chat")
