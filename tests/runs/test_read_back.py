"""Files of a run that were damaged, or written by others, are refused in one line: what, where, and what to do."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from jtrace.dynamics import angles, tables, trajectory
from jtrace.errors import InputError
from jtrace.probing import transfer
from jtrace.probing.vector_files import VECTORS_KEY, read_vectors
from jtrace.runs import log
from jtrace.runs.dynamics_files import COLUMNS
from jtrace.runs.metrics_files import FINGERPRINT_KEY, SCHEMA, WARNINGS_KEY
from jtrace.runs.record_files import read_run_record
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.table_check import check_table
from tests.tables import REF, metrics_table, write_run, write_traced


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = write_run(tmp_path / "run", metrics_table([1]))
    shutil.rmtree(run.path / "metrics")
    (run.path / "metrics").mkdir()
    write_traced(run)
    return run


def rewritten(run: RunDirectory, change) -> None:
    path = run.table_path(REF)
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def about(**metadata: bytes):
    keys = {"fingerprint": FINGERPRINT_KEY, "warnings": WARNINGS_KEY}
    return lambda table: table.replace_schema_metadata(
        table.schema.metadata | {keys[name]: value for name, value in metadata.items()}
    )


def told(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    message = str(error.value)
    assert message.isprintable()
    return message


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda table: table.slice(0, 0), "holds no rows; delete it and trace its checkpoint again"),
        (lambda table: table.drop_columns("value"), "not a metrics table (it has other columns)"),
        (lambda table: _with(table, "protocol", "other"), "has rows of an unknown protocol 'other'"),
        (lambda table: _with(table, "model", None), "no metrics table (column model has rows without a text)"),
        (lambda table: _with(table, "value", float("inf")), "no metrics table (column value has infinite numbers)"),
    ],
)
def test_a_metrics_table_of_another_form_is_refused(run, change, cause):
    rewritten(run, change)
    assert f"{run.table_path(REF)}: {cause}" in told(run.read_metrics)


def _with(table: pa.Table, name: str, value: object) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, SCHEMA.field(name), pa.array([value] * len(table), SCHEMA.field(name).type))


@pytest.mark.parametrize("text", [b"", b"[]", b"[" * 100_000, b'{"digest": "a", "norms": {}, "slices": ""}', b"\xff"])
def test_a_damaged_fingerprint_is_refused(run, text):
    rewritten(run, about(fingerprint=text))
    message = told(run.audit)
    assert message.startswith(f"{run.table_path(REF)}: damaged (")
    assert message.endswith("delete it and trace its checkpoint again")


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"[" * 100_000])
def test_damaged_warnings_are_refused(run, text):
    rewritten(run, about(warnings=text))
    assert told(run.warnings).startswith(f"{run.table_path(REF)}: damaged (")


def test_a_table_of_damaged_content_counts_as_none(run):
    table = pq.read_table(run.table_path(REF))
    pq.write_table(table.replace_schema_metadata({b"jtrace.content": b"[1]"}), run.table_path(REF))
    assert run.origin(REF) is None
    assert run.is_damaged(REF)


@pytest.mark.parametrize(
    "change",
    [
        {"config": []},
        {"checkpoints": [1]},
        {"commands": ["one"]},
        {"commands": [{"time": 3}]},
        {"sets": {"mine": []}},
        {"sets": {"mine": {"rows": "many"}}},
        {"id": "../../elsewhere"},
        {"steering_commands": {}},
    ],
)
def test_a_record_of_another_form_is_none(run, change):
    path = run.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_run_record(path) is None
    assert "no run directory (it holds no readable run.json)" in told(run.record)


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"config": NaN}', "\ud800"])
def test_a_record_that_is_no_json_is_none(run, text):
    (run.path / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "no readable run.json" in told(run.record)


def test_the_columns_that_are_asked_for_are_those_that_are_written():
    assert {
        "onsets": tables.ONSETS,
        "change_points": tables.CHANGE_POINTS,
        "turns": tables.TURNS,
        "angles": angles.ANGLES,
        "subspaces": angles.SUBSPACES,
        "correlations": ("model", "protocol", *trajectory.CORRELATIONS),
        "transfer": transfer.COLUMNS,
    } == COLUMNS


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_of_dynamics_without_a_column_is_refused(run, name):
    columns = COLUMNS[name]
    run.write_dynamics({name: pd.DataFrame({column: ["x"] for column in columns[:-1]})})
    assert f"{name}.parquet: no table of {name} (column" in told(run.read_dynamics, name)


def test_a_column_that_is_there_twice_is_refused():
    table = pa.table([[1.0], [1.0]], names=["at", "at"])
    assert told(check_table, "a", table, (), ("at",), "") == "a (column at is there twice); "


@pytest.mark.parametrize("time", [1e308, -1.0, float("inf"), "1"])
def test_a_line_of_the_log_with_an_impossible_time_is_passed_over(tmp_path, time):
    span = {"start": 0.0, "end": time}
    line = {
        **dict.fromkeys(log.SPANS, span),
        **dict.fromkeys(("checkpoint", "time", "process"), ""),
        **dict.fromkeys(("fetched_bytes", "read_bytes", "tokens", "memory_bytes", "disk_bytes"), 1),
        "best": None,
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line) + "\n" + json.dumps(line | {"best": [[[]]]}) + "\n" + "[" * 100_000 + "\n[]\n3\n")
    assert log.read(path) == []


@pytest.mark.parametrize(
    "metadata",
    [
        "[]",
        "3",
        "[" * 100_000,
        '{"layers": ["0", "1"]}',
        '{"layers": 3}',
        '{"layers": [1e400, 1]}',
        '{"model": []}',
        '{"model": {"model_type": "llama", "width": "4", "depth": 2}}',
        '{"label_one_is_good": []}',
        '{"plain_norm": {"set": [1' + "0" * 400 + ", 1]}}",
        '{"plain_norm": {"set": [NaN, 1]}}',
    ],
)
def test_vectors_of_damaged_metadata_are_refused(tmp_path, metadata):
    path = tmp_path / "a.safetensors"
    save_file({"set": np.ones((2, 4), np.float32)}, path, metadata={VECTORS_KEY: metadata})
    assert str(path) in told(read_vectors, path)


@pytest.mark.parametrize("line", ["3", "[" * 100_000, '{"error": "a"}', '{"checkpoint": 1, "error": "", "time": ""}'])
def test_damaged_notes_of_failures_are_refused(run, line):
    (run.path / "failures.jsonl").write_text(line + "\n")
    assert "failures.jsonl: " in told(run.failures)


def test_pipes_are_not_waited_for(run, tmp_path):
    """Every small file that a run or a model has, as a pipe that nobody writes to."""
    for name in ("run.json", "log.jsonl", "failures.jsonl", "a.safetensors", "dynamics/turns.parquet"):
        path = run.path / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert "no readable run.json" in told(run.record)
    assert "log.jsonl: cannot be read (Is a pipe)" in told(log.read, run.log_path)
    assert "failures.jsonl: cannot be read (Is a pipe)" in told(run.failures)
    assert "a.safetensors: cannot be read (Is a pipe)" in told(read_vectors, run.path / "a.safetensors")
    assert "turns.parquet: cannot be read (Is a pipe)" in told(run.read_dynamics, "turns")
