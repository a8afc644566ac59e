"""Sweeps over hub revisions, with the real client against a hub on loopback."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from jtrace.checkpoints.refs import parse_specs
from jtrace.commands.trace import trace_into
from jtrace.data.loading import read_all
from jtrace.errors import InputError
from jtrace.hub.client import SPARE_BYTES, Hub, UnreachableError
from jtrace.runs.open_run import open_run
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.run import LOOKS_AT_ONCE, look_at_all, sweep
from jtrace.sweep.work import Limits, Work
from tests.conftest import ROOT
from tests.hub_server import API, Fault

pytestmark = pytest.mark.usefixtures("hub_client")
REPO = "org/tiny"


def trace(steps, server, spec, out="run", **limits) -> int:
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([spec], hub.revisions)
    sets = read_all([str(steps / "mine.csv")])
    return trace_into(steps / out, refs, sets, SweepConfig(dtype="float32"), hub, limits=Limits(**limits))


@pytest.mark.slow
def test_a_hub_sweep_gives_what_the_folders_give(steps, server):
    assert trace(steps, server, f"{REPO}@step2,step10,step100") == 0
    assert trace(steps, server, str(steps / "tiny" / "step*"), out="local") == 0
    found, expected = (pd.read_parquet(steps / out / "metrics") for out in ("run", "local"))
    assert set(found["model"]) == {REPO}
    assert found.drop(columns="model").equals(expected.drop(columns="model"))


def test_the_vectors_tell_the_commit(steps, server):
    from safetensors import safe_open

    trace(steps, server, f"{REPO}@step2")
    with safe_open(steps / "run/vectors/org--tiny@step2.safetensors", "np") as file:
        about = json.loads(file.metadata()["jtrace"])
    assert (about["source"], about["commit"]) == (f"{REPO}@step2", server.commit(REPO, "step2"))


@pytest.mark.slow
def test_a_revision_that_vanished_fails_alone_and_the_next_run_does_only_that(steps, server, capsys):
    server.remove(REPO, "step10")
    assert trace(steps, server, f"{REPO}@step2,step10,step100") == 1
    (failure,) = map(json.loads, (steps / "run/failures.jsonl").read_text().splitlines())
    assert failure["checkpoint"] == "org--tiny@step10"
    assert "no such revision; nearest of the 2 that there are: step2, step100" in failure["error"]

    server.refs[REPO, "step10"] = steps / "tiny" / "step10"
    server.requests.clear()
    assert trace(steps, server, f"{REPO}@step2,step10,step100") == 0
    assert server.downloads.count("model.safetensors") == 1
    assert (steps / "run/failures.jsonl").read_text() == ""


def refused_before_weights(steps, server, capsys) -> str:
    assert trace(steps, server, f"{REPO}@step2") == 1
    assert "model.safetensors" not in server.downloads
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: [")]
    return line


def edit_config(steps, **changes) -> None:
    path = steps / "tiny/step2/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_repository_with_only_remote_code_is_refused_before_its_weights_move(steps, server, capsys):
    edit_config(steps, model_type="ownmodel", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    (steps / "tiny/step2/modeling_own.py").write_text("raise SystemExit('remote code ran')")
    line = refused_before_weights(steps, server, capsys)
    assert "model type 'ownmodel' is not implemented, and the repository's own code is never run; known are" in line
    assert "modeling_own.py" not in server.downloads


def test_a_tokeniser_of_another_vocabulary_is_refused_before_weights_move(steps, server, capsys):
    edit_config(steps, vocab_size=50304)
    line = refused_before_weights(steps, server, capsys)
    assert "the tokeniser knows 28 tokens, the model 50304: they do not belong together" in line


def test_a_missing_tokeniser_is_refused_before_weights_move(steps, server, capsys):
    for file in (steps / "tiny/step2").glob("*token*"):
        file.unlink()
    assert "no tokeniser files" in refused_before_weights(steps, server, capsys)


def test_config_and_weights_that_disagree_are_named(steps, server, capsys):
    edit_config(steps, intermediate_size=44)
    assert trace(steps, server, f"{REPO}@step2") == 1
    assert "config.json asks for" in capsys.readouterr().err


def test_a_disk_too_small_is_said_before_weights_move(steps, server, capsys, monkeypatch):
    monkeypatch.setattr(Hub, "free_bytes", lambda self: 1000)
    assert "to download" in refused_before_weights(steps, server, capsys)


@pytest.mark.slow
def test_checkpoints_to_keep_that_the_disk_cannot_hold_together_are_refused_before_the_first(
    steps, server, monkeypatch
):
    size = Hub(steps / "cache", server.url).look(REPO, "step2").size
    monkeypatch.setattr(Hub, "free_bytes", lambda self: 2 * size + SPARE_BYTES)
    with pytest.raises(InputError, match=r"3 checkpoints: .* to download"):
        trace(steps, server, f"{REPO}@step2,step10,step100", keep_downloads=True)
    assert "model.safetensors" not in server.downloads
    # One after another they fit.
    assert trace(steps, server, f"{REPO}@step2,step10,step100") == 0


def test_an_absent_hub_is_waited_for_once(steps, server, monkeypatch, capsys):
    slept = []
    monkeypatch.setattr("jtrace.hub.resumable_download.time", SimpleNamespace(sleep=slept.append))
    server.faults[API] = Fault(status=503)
    hub = Hub(steps / "cache", server.url, waits=(1, 8))
    refs = parse_specs([f"{REPO}@step2", f"{REPO}@step10"], hub.revisions)
    run = open_run(steps / "run", {}, {}, [])
    work = Work(refs, read_all([str(steps / "mine.csv")]), SweepConfig(dtype="float32"))
    failures = sweep(work, Limits(), run, hub)
    assert len(failures) == 2
    assert slept == [1, 8]
    assert "again in 8 s" in capsys.readouterr().err


def test_sizes_of_many_checkpoints_wait_for_an_absent_hub_once(steps, server, monkeypatch):
    slept = []
    monkeypatch.setattr("jtrace.hub.resumable_download.time", SimpleNamespace(sleep=slept.append))
    server.faults[API] = Fault(status=503)
    refs = parse_specs(["pythia-14m:all"], list)
    found = look_at_all(refs, Hub(steps / "cache", server.url, waits=(1,)))
    assert len(found) == 154
    assert all(isinstance(error, UnreachableError) for error in found)
    assert len(slept) <= 2 * LOOKS_AT_ONCE


@pytest.mark.slow
def test_the_tokeniser_of_a_polypythia_may_lie_in_its_sister_repository(steps, server):
    """The suite names a repository for revisions that carry none."""
    shutil.copytree(steps / "tiny/step2", steps / "bare")
    for file in (steps / "bare").glob("*token*"):
        file.unlink()
    server.refs["EleutherAI/pythia-14m-seed1", "step2"] = steps / "bare"
    server.refs["EleutherAI/pythia-14m", "main"] = steps / "tiny/step2"
    assert trace(steps, server, "pythia-14m-seed1:2", keep_downloads=True) == 0
    # A repository with nothing but a tokeniser would do, and the cache serves without the hub.
    server.faults[API] = Fault(status=503)
    assert trace(steps, server, "pythia-14m-seed1:2", out="offline") == 0


def launch(steps, server, *flags):
    where = (f"--statements={steps / 'mine.csv'}", f"--out={steps / 'run'}")
    command = [sys.executable, "launch/trace.py", *where, *flags]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | server.environment
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


@pytest.mark.slow
def test_the_command_traces_a_suite_by_its_name_from_the_hub_that_the_environment_names(steps, server):
    for number in (2, 10, 100):
        server.refs["EleutherAI/pythia-14m", f"step{number}"] = server.refs[REPO, f"step{number}"]
    server.refs["EleutherAI/pythia-14m", "step1"] = server.refs[REPO, "step2"]
    cache = f"--cache_dir={steps / 'cache'}"
    spec = "--checkpoints=pythia-14m:1,2"
    plan = launch(steps, server, spec, cache, "--dry_run")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "EleutherAI--pythia-14m@step2     2  4,194,304" in plan.stdout
    assert "model.safetensors" not in [r.name for r in server.requests if r.method == "GET" and r.range is None]
    assert not (steps / "run").exists()

    run = launch(steps, server, spec, cache)
    assert run.returncode == 0
    table = pd.read_parquet(steps / "run/metrics")
    assert sorted(set(table["tokens"])) == [2_097_152, 4_194_304]
    # The same files under two names.
    assert "(2 names) hold the same weights" in run.stderr


@pytest.mark.slow
def test_an_unknown_suite_is_one_line_that_says_what_exists(steps, server):
    run = launch(steps, server, "--checkpoints=pythai-160m:log")
    assert run.returncode == 1
    assert run.stderr.startswith("error: --checkpoints: no suite is called 'pythai-160m'; the closest are pythia-160m")
    assert run.stderr.count("\n") == 1
