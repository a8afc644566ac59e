"""The run directory: whole or not at all, one configuration, readable as one table."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from jtrace.checkpoints.content import Content
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError, WriteError
from jtrace.probing.raw_probes import KeptProbes
from jtrace.runs.dynamics_files import COLUMNS
from jtrace.runs.metrics_files import SCHEMA, Origin
from jtrace.runs.open_run import open_run
from jtrace.runs.projection_files import PROJECTION_SCHEMA
from jtrace.runs.steering_files import COLUMNS as STEERING_COLUMNS
from jtrace.runs.steering_files import SteeringTable
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

    monkeypatch.setattr("jtrace.runs.metrics_files.pq.write_table", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write_traced(run)
    assert run.is_done(REF)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_directory_that_vanished_is_not_made_anew(run):
    run.path.rename(run.path.with_name("moved"))
    for attempt in (
        lambda: write_traced(run),
        lambda: run.write_vectors(REF, {}, {}),
        lambda: run.write_probes(REF, kept_probes(), HOW),
        lambda: run.write_baseline("abc", {}),
        lambda: run.write_dynamics({"turns": TURNS}),
        lambda: run.record_failure(REF, "why"),
    ):
        with pytest.raises(WriteError, match=r"the run directory has vanished \(no run\.json\)"):
            attempt()
    assert not run.path.exists()


def test_a_table_tells_what_it_was_made_from(run):
    assert run.origin(REF) is None
    write_traced(run)
    assert run.origin(REF) == Origin("/models/llama/step3", None)
    content = Content("w", "c", "t", "s")
    write_traced(run, content=content)
    origin = run.origin(REF)
    assert origin == Origin("/models/llama/step3", content)
    assert origin.content.stamp == "s"


def test_a_stamp_of_other_weights_than_the_table_s_is_none(run):
    write_traced(run, content=Content("w", "c", "t", "s"))
    stamp = run.stamp_path(REF).read_text()
    write_traced(run, content=Content("other", "c", "t", "s"))
    run.stamp_path(REF).write_text(stamp)
    assert run.origin(REF).content.stamp == ""


def test_missing_activations_are_not_done(run):
    write_traced(run)
    assert not run.is_done(REF, ["set"])
    run.write_activations(REF, "set", np.ones((2, 3, 4), np.float32))
    assert run.is_done(REF, ["set"])


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_kept_activations_are_read_as_they_were_written(run, dtype):
    assert run.read_activations(REF.name, "set") is None
    activations = np.arange(24).reshape(2, 3, 4).astype(dtype)
    run.write_activations(REF, "set", activations)
    read = run.read_activations(REF.name, "set")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, activations)
    truncate(run.activations_path(REF.name, "set"))
    with pytest.raises(InputError, match=r"set\.safetensors: damaged; delete it and trace its checkpoint again$"):
        run.read_activations(REF.name, "set")


def test_a_table_that_cannot_be_written_takes_its_vectors_and_probes_along(run, monkeypatch):
    run.write_probes(REF, kept_probes(), HOW)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.runs.metrics_files.pq.write_table", full)
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
    assert not any("traceback" in line for line in lines)
    run.record_failure(REF, "KeyError: 'x'", "Traceback (most recent call last):\n…")
    assert run.failures()[REF.name]["traceback"].startswith("Traceback")
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
    unit = SteeringTable(run.path / "steering", ("chat", "ckpt_1", "stereoset", "stereoset"), {"settings": settings})
    unit.write_table(steered(values, **others), time)
    return unit


def test_of_steering_tables_of_the_same_vector_and_task_the_latest_counts(run):
    (run.path / "steering").mkdir()
    write_steering_unit(run, {0: 0.1, 1: 0.2}, "2026-01-03", settings=1)
    write_steering_unit(run, {0: 0.3, 1: 0.4, 2: 0.5}, "2026-01-02", settings=2, n=200)
    assert run.read_steering().set_index("strength")["value"].to_dict() == {0: 0.1, 1: 0.2}


# Probes

HOW = {"checkpoint": REF.name, "layers": [0, 2], "folds": 3, "repeats": 2, "seed": 0, "data": {"set": "abc"}}


def kept_probes(names=("set", "mine"), **parts):
    """Six fits, two layers, width 4, of five rows."""
    whole = {
        "probes": np.arange(60, dtype=np.float32).reshape(6, 2, 5),
        "folds": np.array([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]], np.int16),
        "labels": np.array([0, 1, 1, 0, 1], np.int8),
    }
    return dict.fromkeys(names, KeptProbes(**whole | parts))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def test_probes_are_read_as_they_were_written_and_one_set_by_itself(run):
    assert run.read_probes(REF.name) is None
    written = kept_probes()
    run.write_probes(REF, written, HOW)
    read, how = run.read_probes(REF.name)
    assert how == HOW
    assert list(read) == ["mine", "set"]
    for name, kept in read.items():
        for part, array in vars(written[name]).items():
            np.testing.assert_array_equal(vars(kept)[part], array, strict=True)
    assert list(run.read_probes(REF.name, ["set", "nowhere"])[0]) == ["set"]


def test_a_file_of_probes_has_a_key_per_set_and_the_agreed_metadata(run):
    run.write_probes(REF, kept_probes(["set"]), HOW)
    with safe_open(run.path / "probes/org--llama@step3.safetensors", "numpy") as file:
        assert sorted(file.keys()) == ["set", "set/folds", "set/labels"]
        assert {name: json.loads(about) for name, about in file.metadata().items()} == {"jtrace": HOW}


def test_probes_written_twice_are_the_same_bytes(run):
    other = CheckpointRef("org/llama", "again", Path("/models/llama/again"))
    for ref in (REF, other):
        run.write_probes(ref, kept_probes(), HOW)
    assert run.probes_path(REF.name).read_bytes() == run.probes_path(other.name).read_bytes()


def test_a_checkpoint_that_has_probes_is_done_once_they_are_there_and_whole(run):
    write_traced(run)
    assert run.is_done(REF)
    assert not run.is_done(REF, probes=True)
    run.write_probes(REF, kept_probes(), HOW)
    assert run.is_done(REF, probes=True)
    truncate(run.probes_path(REF.name))
    assert not run.is_done(REF, probes=True)


@pytest.mark.parametrize(
    ("parts", "how", "reason"),
    [
        pytest.param({"folds": np.zeros((2, 5), np.int8)}, HOW, "do not fit", id="fewer folds than probes"),
        pytest.param({"labels": np.zeros(4, np.int8)}, HOW, "do not fit", id="fewer labels than rows"),
        pytest.param({"probes": np.full((6, 2, 5), np.nan)}, HOW, "do not fit", id="NaN"),
        pytest.param({"probes": np.ones((6, 2))}, HOW, "do not fit", id="no width"),
        pytest.param({}, HOW | {"layers": [0]}, "do not fit", id="layers"),
        pytest.param({}, {}, "layers", id="no layers"),
    ],
)
def test_probes_that_make_no_sense_are_named_in_one_line(run, parts, how, reason):
    run.write_probes(REF, kept_probes(**parts), how)
    with pytest.raises(InputError, match=rf"step3\.safetensors: cannot be read as probes \(.*{reason}") as caught:
        run.read_probes(REF.name)
    assert "\n" not in str(caught.value)


def test_damaged_probes_are_named_in_one_line(run):
    run.write_probes(REF, kept_probes(), HOW)
    truncate(run.probes_path(REF.name))
    with pytest.raises(InputError, match=r"step3\.safetensors: cannot be read as probes .*trace its checkpoint again$"):
        run.read_probes(REF.name)
    run.write_vectors(REF, {"set": np.ones((2, 4), np.float32)}, HOW)
    run.vectors_path(REF).rename(run.probes_path(REF.name))
    with pytest.raises(InputError, match=r"cannot be read as probes \(.*set/folds"):
        run.read_probes(REF.name)


# Baselines


def test_a_baseline_is_read_as_it_was_written_and_computed_anew_where_it_is_damaged(run):
    assert run.read_baseline("abc") is None
    scores = {"set": np.arange(6, dtype=np.float32).reshape(2, 3), "mine": np.zeros((1, 2), np.int8)}
    run.write_baseline("abc", scores)
    written = run.baseline_path("abc").read_bytes()
    read = run.read_baseline("abc")
    assert read.keys() == scores.keys()
    for name, array in scores.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    run.write_baseline("abc", dict(reversed(scores.items())))  # another process
    assert run.baseline_path("abc").read_bytes() == written
    truncate(run.baseline_path("abc"))
    assert run.read_baseline("abc") is None


# Tables of dynamics

NUMBERS = {name: [0.5, np.nan] for name in ("ci_low", "ci_high", "rise", "fall", "p")}
TURNS = pd.DataFrame(
    {name: ["a", "b"] for name in COLUMNS["turns"]}
    | {"layer": [1, 2], "at": [3.5, np.nan], "checkpoint": ["step3", ""]}
    | NUMBERS
)


def test_tables_of_dynamics_are_read_as_they_were_written(run):
    assert run.read_dynamics("turns") is None
    run.write_dynamics({"turns": TURNS, "others": TURNS[["model"]]})
    pd.testing.assert_frame_equal(run.read_dynamics("turns"), TURNS)
    pd.testing.assert_frame_equal(run.read_dynamics("others"), TURNS[["model"]])
    assert not list(run.path.rglob(".*.tmp"))


def test_tables_of_dynamics_written_twice_are_the_same_bytes_whatever_their_index(run):
    run.write_dynamics({"turns": TURNS, "again": TURNS.set_axis([7, 3])})
    one, other = ((run.path / "dynamics" / f"{name}.parquet").read_bytes() for name in ("turns", "again"))
    assert one == other


def test_a_table_that_is_empty_now_takes_the_old_one_away(run):
    run.write_dynamics({"turns": TURNS, "angles": TURNS})
    run.write_dynamics({"turns": TURNS.iloc[:0], "never": TURNS.iloc[:0]})
    assert run.read_dynamics("turns") is None
    assert [path.name for path in (run.path / "dynamics").iterdir()] == ["angles.parquet"]


def test_a_damaged_table_of_dynamics_is_named_in_one_line(run):
    run.write_dynamics({"turns": TURNS})
    path = run.path / "dynamics" / "turns.parquet"
    whole = path.read_bytes()
    at = whole.index(b"step3")
    for damage in (whole[:-1], whole[:at] + b"stepX" + whole[at + 5 :]):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=r"turns\.parquet: damaged \(.*\); delete it, [^\n]*$"):
            run.read_dynamics("turns")


def test_a_table_of_dynamics_that_cannot_be_written_leaves_the_old_one(run, monkeypatch):
    run.write_dynamics({"turns": TURNS})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.runs.dynamics_files.pq.write_table", full)
    with pytest.raises(WriteError, match=r"turns\.parquet: cannot be written \(No space left on device\)"):
        run.write_dynamics({"turns": TURNS[:1]})
    pd.testing.assert_frame_equal(run.read_dynamics("turns"), TURNS)
