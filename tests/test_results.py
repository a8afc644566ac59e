"""The run directory: whole or not at all, one configuration, readable as one table."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from jtrace.checkpoints.audit import Fingerprint
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError, WriteError
from jtrace.results import PROJECTION_SCHEMA, SCHEMA, STEERING_COLUMNS, RunDirectory, open_run, open_steering
from jtrace.steering_results import Unit
from jtrace.trace import Metric, Projection
from tests.tables import steered, steering_table

CONFIG, DATA = {"dtype": "float32", "layers": "all"}, {"set": "abc"}
REF = CheckpointRef("org/llama", "step3", Path("/models/llama/step3"), step=3)
METRICS = [Metric("set", "fairness", 0, "paper", "probe_accuracy", 0.75, n=20)]


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run", CONFIG, DATA, [REF.name])


def write(run, ref=REF, value=0.0):
    weights = Fingerprint(f"digest of {value}", {"embedding": 1.0}, np.full((1, 4), value, np.float32))
    vectors = {"set": np.ones((2, 4), np.float32)}
    points = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    shown = Projection("set", "fairness", np.array([0, 4, 9]), np.array([0, 1, 1]), np.array([0, 1]), points)
    run.write_checkpoint(ref, vectors, {"made": "here", "layers": [0, 1]}, METRICS, weights, [shown])


def test_tables_read_as_one_with_the_contract_s_columns(run):
    write(run)
    write(run, CheckpointRef("smollm2", "", Path("/models/smollm2")))
    table = pd.read_parquet(run.path / "metrics")
    assert list(table.columns) == SCHEMA.names
    assert set(table["model"]) == {"org/llama", "smollm2"}
    assert table["step"].isna().sum() == 1
    assert not list(run.path.rglob(".*.tmp"))


def test_files_are_named_after_the_checkpoint(run):
    write(run)
    assert (run.path / "metrics/org--llama@step3.parquet").is_file()
    with safe_open(run.path / "vectors/org--llama@step3.safetensors", "numpy") as file:
        assert list(file.keys()) == ["set"]
        assert json.loads(file.metadata()["jtrace"]) == {"made": "here", "layers": [0, 1]}


@pytest.mark.parametrize("part", ["metrics", "vectors", "projections"])
def test_a_checkpoint_is_done_once_its_table_vectors_and_projections_are_there(run, part):
    assert not run.is_done(REF)
    write(run)
    assert run.is_done(REF)
    next((run.path / part).iterdir()).unlink()
    assert not run.is_done(REF)


def test_projections_are_a_row_per_layer_and_statement(run):
    write(run)
    table = pd.read_parquet(run.path / "projections/org--llama@step3.parquet")
    assert list(table.columns) == PROJECTION_SCHEMA.names
    assert table.iloc[4].to_dict() == {
        "dataset": "set", "dimension": "fairness", "layer": 1, "row": 4, "label": 1, "x": 8.0, "y": 9.0,
    }  # fmt: skip
    pd.testing.assert_frame_equal(run.read_projections(REF.name), table)
    assert run.read_projections("nothing") is None


def test_a_damaged_table_is_not_done(run):
    write(run)
    path = run.table_path(REF)
    path.write_bytes(path.read_bytes()[:50])
    assert not run.is_done(REF)


def test_a_write_that_fails_leaves_what_was_there_before(run, monkeypatch):
    """A traced checkpoint is traced again for another kind of vector, and the disk is full."""
    write(run)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.results.pq.write_table", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write(run)
    assert run.is_done(REF)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_disk_that_is_full_at_the_start_leaves_a_directory_that_can_be_begun_again(tmp_path, monkeypatch):

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("jtrace.whole._flush", full)
        with pytest.raises(InputError, match=r"run\.json: cannot be written"):
            open_run(tmp_path / "run", CONFIG, DATA, [REF.name])
    open_run(tmp_path / "run", CONFIG, DATA, [REF.name])


def test_a_directory_that_vanished_is_not_made_anew(run):
    run.path.rename(run.path.with_name("moved"))
    for attempt in (lambda: write(run), lambda: run.write_vectors(REF, {}, {}), lambda: run.record_failure(REF, "why")):
        with pytest.raises(WriteError, match=r"the run directory has vanished \(no run\.json\)"):
            attempt()
    assert not run.path.exists()


def test_a_run_in_use_refuses_another_configuration_before_its_first_table(tmp_path):
    with ExitStack() as hold:
        open_run(tmp_path / "run", CONFIG, DATA, [], hold=hold)
        with pytest.raises(InputError, match=r"dtype was .* in this run"):
            open_run(tmp_path / "run", CONFIG | {"dtype": "bfloat16"}, DATA, [])
        open_run(tmp_path / "run", CONFIG, DATA, [])
    open_run(tmp_path / "run", CONFIG | {"dtype": "bfloat16"}, DATA, [])


def test_another_folder_of_the_same_name_is_refused(run):
    write(run)
    with pytest.raises(InputError, match="made from /models/llama/step3, not from /elsewhere/llama/step3"):
        run.is_done(CheckpointRef(REF.model, REF.revision, Path("/elsewhere/llama/step3"), step=3))


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
    write(run)
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


def test_missing_activations_are_not_done(run):
    write(run)
    assert not run.is_done(REF, ["set"])
    run.write_activations(REF, "set", np.ones((2, 3, 4), np.float32))
    assert run.is_done(REF, ["set"])


def test_a_table_that_cannot_be_written_takes_its_vectors_along(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.results.pq.write_table", full)
    with pytest.raises(InputError, match=r"org--llama@step3\.parquet: cannot be written \(No space left on device\)"):
        write(run)
    assert not list(run.path.rglob("*llama*"))


def test_a_damaged_table_of_another_checkpoint_is_named(run):
    write(run)
    run.table_path(REF).write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"org--llama@step3\.parquet: damaged"):
        run.read_metrics()


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


def test_failures_are_one_line_each_replaced_and_cleared(run):
    other = CheckpointRef("llama", "step9", Path("/models/llama/step9"))
    run.record_failure(REF, "first reason")
    run.record_failure(other, "another")
    run.record_failure(REF, "second reason")
    lines = [json.loads(line) for line in (run.path / "failures.jsonl").read_text().splitlines()]
    assert [line["error"] for line in lines] == ["second reason", "another"]
    run.clear_failures([REF])
    assert list(run.failures()) == [other.name]


def checkpoint(step):
    return CheckpointRef("org/llama", f"step{step}", Path(f"/models/llama/step{step}"), step=step)


def test_the_audit_names_equal_weights_and_those_out_of_place(run):
    for step, value in ((0, 0.0), (10, 1.0), (20, 9.0), (30, 1.5), (40, 2.0), (100, 8.9)):
        write(run, checkpoint(step), value)
    (warning,) = run.audit()
    assert warning.startswith("org--llama@step20: the weights jump away and back here, nearest to org--llama@step100")
    write(run, CheckpointRef("smollm2", "", Path("/models/smollm2")), 1.0)
    assert any("org--llama@step10, smollm2 (2 names) hold the same weights" in warning for warning in run.audit())


def test_the_audit_looks_at_each_model_by_itself(run):
    for step, value in ((0, 0.0), (10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)):
        write(run, checkpoint(step), value)
        other = CheckpointRef("org/other", f"step{step + 5}", Path(f"/models/other/step{step}"), step=step + 5)
        write(run, other, 100 - 3 * value)
    assert run.audit() == []


def test_a_table_of_something_else_is_named(run):
    write(run)
    pd.DataFrame({"a": [1]}).to_parquet(run.path / "metrics/other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: not a metrics table"):
        run.read_metrics()


def test_steering_tables_read_as_one_and_wrong_ones_are_named(run):
    assert list(run.read_steering().columns) == list(STEERING_COLUMNS)
    folder = run.path / "steering"
    folder.mkdir()
    for name in ("one", "other"):
        steering_table([name]).to_parquet(folder / f"{name}.parquet")
    pd.testing.assert_frame_equal(
        run.read_steering(), pd.concat(map(steering_table, (["one"], ["other"])), ignore_index=True)
    )
    steering_table(["chat"]).drop(columns="strength").to_parquet(folder / "one.parquet")
    with pytest.raises(InputError, match=r"one\.parquet: no steering table \(column strength is missing\)"):
        run.read_steering()
    (folder / "one.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"one\.parquet: damaged"):
        run.read_steering()


def test_the_record_tells_the_command_and_the_sets(tmp_path):
    open_run(tmp_path / "run", CONFIG, DATA, [], {"set": {"rows": 40}})
    record = RunDirectory(tmp_path / "run").record()
    assert record["sets"] == {"set": {"rows": 40}}
    assert record["commands"][0]["command"]


def test_the_record_of_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no run directory"):
        RunDirectory(tmp_path / "nothing").record()


# Steering


def write_steering_unit(run, values, time, settings=0, **others):
    unit = Unit(run.path / "steering", ("chat", "ckpt_1", "stereoset", "stereoset"), {"settings": settings})
    unit.write_table(steered(values, **others), time)
    return unit


def test_of_steering_tables_of_the_same_vector_and_task_the_latest_counts(run):
    (run.path / "steering").mkdir()
    write_steering_unit(run, {0: 0.1, 1: 0.2}, "2026-01-03", settings=1)
    write_steering_unit(run, {0: 0.3, 1: 0.4, 2: 0.5}, "2026-01-02", settings=2, n=200)
    assert run.read_steering().set_index("strength")["value"].to_dict() == {0: 0.1, 1: 0.2}


def test_steering_in_a_traced_run_leaves_its_record_and_is_noted_beside_it(run):
    write(run)
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
