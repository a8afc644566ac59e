"""From nothing to a report, and the same tables whatever happens on the way. Small: 20 steps."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from safetensors.numpy import load_file

from jtrace.commands import quickstart
from jtrace.commands.flags import parse_keep
from jtrace.runs.run_directory import RunDirectory
from tests.conftest import ROOT
from tests.in_process import run_command

LAUNCH = ROOT / "launch"


def start(out: Path, cache: Path, seed: int = 0) -> subprocess.Popen[str]:
    """The quickstart in a process group of its own; everything that it compiles is kept in `cache`."""
    command = [sys.executable, str(LAUNCH / "quickstart.py"), f"--out={out}", "--steps=20", f"--seed={seed}"]
    env = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",  # it computes for longer than hasty compilation saves
    }
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(out: Path, cache: Path, seed: int = 0) -> str:
    with start(out, cache, seed) as process:
        said = process.communicate(timeout=900)[0]
    assert process.returncode == 0, said
    return said


def tables(out: Path) -> pd.DataFrame:
    rows = pd.read_parquet(out / "trace" / "metrics")
    return rows.sort_values(["model", "revision", "dataset", "layer", "metric"], ignore_index=True)


def vectors(out: Path) -> dict[str, bytes]:
    return {
        f"{file.name}/{name}": array.tobytes()
        for file in sorted((out / "trace" / "vectors").iterdir())
        for name, array in load_file(file).items()
    }


@pytest.mark.parametrize(("steps", "chat_steps"), [(1800, 90), (20, 1)])
def test_its_commands_are_ones_that_jtrace_takes_and_lead_from_one_to_the_next(tmp_path, steps, chat_steps):
    values = {}
    for name, *words in quickstart.stages(tmp_path, 3, steps).values():
        command = import_module(f"jtrace.commands.{name}")
        try:
            command.FLAGS([name, *words])
            values.setdefault(name, []).append({flag: command.FLAGS[flag].value for flag in command.FLAGS})
        finally:
            command.FLAGS.unparse_flags()
            for flag in command.FLAGS:
                command.FLAGS[flag].unparse()
    (pretrain, chat), (trace,), (steer,), (report,) = (
        values[name] for name in ("pretrain", "trace", "steer", "report")
    )
    assert (pretrain["steps"], chat["steps"], chat["init_from"]) == (steps, chat_steps, f"{pretrain['out']}@{steps}")
    kept = parse_keep(pretrain["keep"], steps)
    assert {0, steps // 10, steps // 2, steps} <= set(kept)
    assert trace["checkpoints"] == [f"{pretrain['out']};{chat['out']}"]
    assert steer["target"] == f"{chat['out']}@{chat_steps}"
    # Vectors are of steps that are kept, and so traced.
    names = [Path(file).stem for file in steer["vectors"]]
    assert all(Path(file).parent == Path(trace["out"]) / "vectors" for file in steer["vectors"])
    assert names[-1] == f"chat@step{chat_steps:06d}"
    assert {int(name.removeprefix("pretrain@step")) for name in names[:-1]} <= set(kept)
    assert steer["out"] == report["run"] == trace["out"]
    assert all(one["seed"] == 3 for one in (pretrain, chat))


def test_stages_are_run_one_after_the_other_and_the_report_named(tmp_path, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(quickstart, "run_stage", lambda command: commands.append(command) or 0)
    assert run_command("quickstart", f"--out={tmp_path}", "--steps=20") == 0
    assert commands == [
        [sys.executable, "-P", "-m", "jtrace", *words] for words in quickstart.stages(tmp_path, 0, 20).values()
    ]
    assert capsys.readouterr().out.endswith(f"Done in 0 min 0 s. Open {(tmp_path / 'trace/report.html').as_uri()}\n")


def test_a_stage_that_fails_is_the_last(tmp_path, monkeypatch, capsys):
    statuses = iter([0, 2])
    monkeypatch.setattr(quickstart, "run_stage", lambda command: next(statuses))
    assert run_command("quickstart", f"--out={tmp_path}", "--steps=20") == 2
    said = capsys.readouterr().out
    assert "2. Fine-tune it on conversations" in said
    assert "3. " not in said


def test_a_stage_s_status_is_its_process_s():
    assert quickstart.run_stage([sys.executable, "-S", "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        # It was stopped too, and says so itself.
        ("import sys; sys.stdin.read(); sys.exit(143)", 143),
        # It was not, and is ended before it could say anything.
        ("import time; time.sleep(60)", None),
    ],
)
def test_a_stop_waits_for_the_stage_and_is_told_once(monkeypatch, stage, status):
    class Stopped(subprocess.Popen):
        """A stage during which the first wait is stopped by Ctrl-C."""

        waits = 0

        def wait(self, timeout=None):
            self.waits += 1
            if self.waits == 1:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(quickstart, "TOLD_SECONDS", 30 if status else 0.01)
    monkeypatch.setattr(quickstart.subprocess, "Popen", lambda command: Stopped(command, stdin=subprocess.DEVNULL))
    command = [sys.executable, "-S", "-c", stage]
    if status is None:
        with pytest.raises(KeyboardInterrupt):
            quickstart.run_stage(command)
    else:
        assert quickstart.run_stage(command) == status


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("quickstart") / "first"
    return out, finish(out, cache)


@pytest.mark.slow
def test_it_ends_with_a_report_on_every_kept_step_and_the_chat_model(done):
    out, said = done
    assert said.rstrip().endswith((out / "trace" / "report.html").as_uri())
    page = (out / "trace" / "report.html").read_text(encoding="utf-8")
    assert "world-reliability" in page
    traced = tables(out).groupby("model")["revision"].unique()
    assert list(traced["pretrain"]) == ["step000000", "step000001", *(f"step{step:06d}" for step in range(2, 21, 2))]
    assert list(traced["chat"]) == ["step000001"]
    assert set(tables(out)["dataset"].str.removeprefix("world-")) == {
        "reliability",
        "toxicity",
        "privacy",
        "fairness",
        "robustness",
    }


@pytest.mark.slow
def test_the_chat_model_is_steered_with_vectors_of_pre_training_and_its_own(done):
    rows = RunDirectory(done[0] / "trace").read_steering()
    steered = rows[rows["vector_from"] != ""]
    assert set(steered["target"]) == {"chat@step000001"}
    sources = {f"pretrain@step{step:06d}" for step in (2, 10, 20)} | {"chat@step000001"}
    assert set(steered["vector_from"]) == sources | {f"{source}:random" for source in sources}
    asked = rows[rows["vector_from"] == ""]
    assert set(asked["target"]) > sources


@pytest.mark.slow
def test_it_prints_commands_that_can_be_run_alone(done):
    _, said = done
    commands = [shlex.split(line) for line in said.splitlines() if line.lstrip().startswith("jtrace ")]
    assert [command[1] for command in commands] == ["pretrain", "pretrain", "trace", "steer", "report"]


@pytest.mark.long
def test_a_second_time_measures_nothing_again(done, cache):
    out, _ = done
    contents = {file: file.read_bytes() for file in out.rglob("*.parquet")}
    # A report makes the tables of dynamics anew.
    times = {file: file.stat().st_mtime_ns for file in contents if file.parent.name != "dynamics"}
    finish(out, cache)
    assert {file: file.read_bytes() for file in out.rglob("*.parquet")} == contents
    assert {file: file.stat().st_mtime_ns for file in times} == times


@pytest.mark.slow
def test_a_stop_of_all_processes_is_told_once(cache, tmp_path):
    with start(tmp_path / "stopped", cache) as process:
        while not (tmp_path / "stopped/pretrain").exists() and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
    assert (process.returncode, said.count("terminated;")) == (143, 1), said


@pytest.mark.slow
def test_another_seed_in_the_same_folder_is_refused(done, cache):
    with start(done[0], cache, seed=1) as process:
        said = process.communicate(timeout=900)[0]
    assert process.returncode == 1
    assert "a run of another configuration" in said
    assert "seed is 1, was 0" in said


@pytest.mark.long
def test_killed_at_any_moment_and_begun_again_it_ends_with_the_same_tables(done, cache, tmp_path):
    whole, _ = done
    chance, out, kills = random.Random(0), tmp_path / "killed", 0
    while kills < 25:
        with start(out, cache) as process:
            try:
                process.wait(chance.uniform(1, 25))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                continue
        assert process.returncode == 0
        same(out, whole)
        shutil.rmtree(out)
    finish(out, cache)
    same(out, whole)


def same(out: Path, whole: Path) -> None:
    pd.testing.assert_frame_equal(tables(out), tables(whole), check_exact=True)
    assert vectors(out) == vectors(whole)
    key = ["target", "vector_from", "vector_set", "task", "protocol", "metric", "layer", "strength"]
    steered = [
        RunDirectory(folder / "trace").read_steering().sort_values(key, ignore_index=True) for folder in (out, whole)
    ]
    pd.testing.assert_frame_equal(*steered, check_exact=True)
