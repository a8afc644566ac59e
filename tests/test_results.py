"""The run directory: whole or not at all, one configuration, readable as one table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError, WriteError
from jtrace.results import PROJECTION_SCHEMA, SCHEMA, STEERING_COLUMNS
from jtrace.run_record import open_run
from jtrace.steering_results import Unit
from tests.tables import REF, steered, steering_table, write_traced

CONFIG, DATA = {"dtype": "float32", "layers": "all"}, {"set": "abc"}


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run", CONFIG, DATA, [REF.name])


def test_tables_read_as_one_with_the_contract_s_columns(run):
    write_traced(run)
    write_traced(run, CheckpointRef("smollm2", "", Path("/models/smollm2")))
    table = pd.read_parquet(run.path / "metrics")
    assert list(table.columns) == SCHEMA.names
    assert set(table["model"]) == {"org/llama", "smollm2"}
    assert table["step"].isna().sum() == 1
    assert not list(run.path.rglob(".*.tmp"))


def test_files_are_named_after_the_checkpoint(run):
    write_traced(run)
    assert (run.path / "metrics/org--llama@step3.parquet").is_file()
    with safe_open(run.path / "vectors/org--llama@step3.safetensors", "numpy") as file:
        assert list(file.keys()) == ["set"]
        assert json.loads(file.metadata()["jtrace"]) == {"made": "here", "layers": [0, 1]}


@pytest.mark.parametrize("part", ["metrics", "vectors", "projections"])
def test_a_checkpoint_is_done_once_its_table_vectors_and_projections_are_there(run, part):
    assert not run.is_done(REF)
    write_traced(run)
    assert run.is_done(REF)
    next((run.path / part).iterdir()).unlink()
    assert not run.is_done(REF)


def test_projections_are_a_row_per_layer_and_statement(run):
    write_traced(run)
    table = pd.read_parquet(run.path / "projections/org--llama@step3.parquet")
    assert list(table.columns) == PROJECTION_SCHEMA.names
    assert table.iloc[4].to_dict() == {
        "dataset": "set", "dimension": "fairness", "layer": 1, "row": 4, "label": 1, "x": 8.0, "y": 9.0,
    }  # fmt: skip
    pd.testing.assert_frame_equal(run.read_projections(REF.name), table)
    assert run.read_projections("nothing") is None


def test_a_damaged_table_is_not_done(run):
    write_traced(run)
    path = run.table_path(REF)
    path.write_bytes(path.read_bytes()[:50])
    assert not run.is_done(REF)


def test_a_write_that_fails_leaves_what_was_there_before(run, monkeypatch):
    """A traced checkpoint is traced again for another kind of vector, and the disk is full."""
    write_traced(run)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.results.pq.write_table", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_traced(run)
    assert run.is_done(REF)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_directory_that_vanished_is_not_made_anew(run):
    run.path.rename(run.path.with_name("moved"))
    for attempt in (
        lambda: write_traced(run),
        lambda: run.write_vectors(REF, {}, {}),
        lambda: run.record_failure(REF, "why"),
    ):
        with pytest.raises(WriteError, match=r"the run directory has vanished \(no run\.json\)"):
            attempt()
    assert not run.path.exists()


def test_another_folder_of_the_same_name_is_refused(run):
    write_traced(run)
    with pytest.raises(InputError, match="made from /models/llama/step3, not from /elsewhere/llama/step3"):
        run.is_done(CheckpointRef(REF.model, REF.revision, Path("/elsewhere/llama/step3"), step=3))


def test_missing_activations_are_not_done(run):
    write_traced(run)
    assert not run.is_done(REF, ["set"])
    run.write_activations(REF, "set", np.ones((2, 3, 4), np.float32))
    assert run.is_done(REF, ["set"])


def test_a_table_that_cannot_be_written_takes_its_vectors_along(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.results.pq.write_table", full)
    with pytest.raises(InputError, match=r"org--llama@step3\.parquet: cannot be written \(No space left on device\)"):
        write_traced(run)
    assert not list(run.path.rglob("*llama*"))


def test_a_damaged_table_of_another_checkpoint_is_named(run):
    write_traced(run)
    run.table_path(REF).write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"org--llama@step3\.parquet: damaged"):
        run.read_metrics()


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
        write_traced(run, checkpoint(step), value)
    (warning,) = run.audit()
    assert warning.startswith("org--llama@step20: the weights jump away and back here, nearest to org--llama@step100")
    write_traced(run, CheckpointRef("smollm2", "", Path("/models/smollm2")), 1.0)
    assert any("org--llama@step10, smollm2 (2 names) hold the same weights" in warning for warning in run.audit())


def test_the_audit_looks_at_each_model_by_itself(run):
    for step, value in ((0, 0.0), (10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)):
        write_traced(run, checkpoint(step), value)
        other = CheckpointRef("org/other", f"step{step + 5}", Path(f"/models/other/step{step}"), step=step + 5)
        write_traced(run, other, 100 - 3 * value)
    assert run.audit() == []


def test_a_table_of_something_else_is_named(run):
    write_traced(run)
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


def write_steering_unit(run, values, time, settings=0, **others):
    unit = Unit(run.path / "steering", ("chat", "ckpt_1", "stereoset", "stereoset"), {"settings": settings})
    unit.write_table(steered(values, **others), time)
    return unit


def test_of_steering_tables_of_the_same_vector_and_task_the_latest_counts(run):
    (run.path / "steering").mkdir()
    write_steering_unit(run, {0: 0.1, 1: 0.2}, "2026-01-03", settings=1)
    write_steering_unit(run, {0: 0.3, 1: 0.4, 2: 0.5}, "2026-01-02", settings=2, n=200)
    assert run.read_steering().set_index("strength")["value"].to_dict() == {0: 0.1, 1: 0.2}
