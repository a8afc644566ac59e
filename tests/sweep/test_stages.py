"""What goes from stage to stage of a sweep, and what a checkpoint holds on its way."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data.loading import read_all
from jtrace.errors import InputError, StoppedError, WriteError
from jtrace.hub.client import Hub
from jtrace.probing.sound_set import SoundConfig
from jtrace.runs.open_run import open_run
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.locks import Claims
from jtrace.sweep.baselines import Baselines, Untrained
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.coordinator import OneMesh
from jtrace.sweep.fetch import Fetcher
from jtrace.sweep.pipeline import Pipeline
from jtrace.sweep.stages import Failed, Fetched, Ready, Wanted, attempted
from jtrace.sweep.work import Limits, Work
from tests.hub_server import Fault

REPO, WEIGHTS = "org/tiny", "model.safetensors"


@dataclass(frozen=True)
class Disagreeing(OneMesh):
    """The first of two processes of a mesh, the other of which can do nothing."""

    def agreed(self, ok: bool) -> bool:
        return False


@pytest.fixture
def run(steps) -> RunDirectory:
    return open_run(steps / "run", {}, {}, [])


@pytest.fixture
def work(steps) -> Work:
    refs = [CheckpointRef("tiny", f"step{n}", steps / f"tiny/step{n}", n) for n in (2, 10)]
    return Work(refs, read_all([str(steps / "mine.csv")]), SweepConfig(dtype="float32"))


def wanted_of(source) -> Wanted:
    return Wanted(CheckpointRef("tiny", "step2", source, 2), "[1/1] tiny@step2")


# Faults


def raised(error: Exception) -> Failed | None:
    def stage(given):
        raise error

    return attempted(stage, "given", wanted_of("here"))


def test_a_stage_s_result_is_handed_on():
    assert attempted(len, "four", wanted_of("here")) == 4


@pytest.mark.parametrize(
    ("error", "reason", "refused"),
    [
        (InputError("no such\n file"), "no such\\n file", False),
        (WriteError("disk full"), "disk full", True),
        (RuntimeError("out of\nmemory"), "RuntimeError: out of memory", False),
    ],
)
def test_what_goes_wrong_with_a_checkpoint_is_one_line_and_no_exception(error, reason, refused):
    failed = raised(error)
    assert (failed.reason, failed.refused, failed.on_record) == (reason, refused, False)
    assert ("in stage\n" in failed.traceback) == isinstance(error, RuntimeError)


def test_a_sweep_that_is_given_up_is_no_fault_of_a_checkpoint():
    with pytest.raises(StoppedError):
        raised(StoppedError())


# What a checkpoint holds


@pytest.mark.usefixtures("hub_client")
@pytest.mark.parametrize("garbled", [False, True])
def test_bytes_on_the_disk_are_held_until_the_checkpoint_lets_go_and_given_back_once(steps, run, work, server, garbled):
    """Where the download fails half-way as well: its files are still there then."""
    if garbled:
        server.faults[f"{server.commit(REPO, 'step2')}/{WEIGHTS}"] = Fault(garble=True)
    size = (steps / "tiny/step2" / WEIGHTS).stat().st_size
    fetcher = Fetcher(work, Limits(), run, Hub(steps / "cache", server.url, ()), threading.Event(), quiet=True)
    wanted = wanted_of(HubSource(REPO, "step2"))
    outcome = attempted(fetcher.fetch, wanted, wanted)
    assert isinstance(outcome, Failed if garbled else Fetched)
    assert fetcher._disk.held == size
    for _ in range(2):
        wanted.held.close()
        assert fetcher._disk.held == 0


@pytest.mark.parametrize("damaged", [False, True])
def test_params_on_the_host_go_with_their_bytes_and_once(steps, run, work, damaged):
    pipeline = Pipeline(work, Limits(), run, Hub(steps / "cache"), OneMesh(run.claims(), first=True), quiet=True)
    wanted = wanted_of(steps / "tiny/step2")
    fetched = pipeline._fetcher.fetch(wanted)
    if damaged:
        (steps / "tiny/step2" / WEIGHTS).write_bytes(b"x" * 100)
    outcome = attempted(pipeline._stage, fetched, wanted)
    assert isinstance(outcome, Failed if damaged else Ready)
    assert pipeline._memory.held == pipeline._memory.peak > 0
    if not damaged:
        assert outcome.staged.nbytes == pipeline._memory.held
    for _ in range(2):
        wanted.held.close()
        assert pipeline._memory.held == 0
    assert damaged or outcome.staged.nbytes == 0


# In step


def test_what_another_process_of_a_mesh_cannot_read_is_not_traced_and_holds_nothing(steps, run, work, capsys):
    pipeline = Pipeline(work, Limits(), run, Hub(steps / "cache"), Disagreeing(run.claims(), first=True), quiet=True)
    pipeline.go()
    assert pipeline.failures == dict.fromkeys(
        ["tiny@step2", "tiny@step10"], "another process of the mesh could not read it"
    )
    assert set(run.failures()) == set(pipeline.failures)
    assert run.tables() == []
    assert pipeline._memory.held == 0
    assert all(run.claims().take(ref.name) for ref in work.refs)
    assert capsys.readouterr().err.splitlines() == [
        f"error: [{at}/2] {name}: {reason}" for at, (name, reason) in enumerate(pipeline.failures.items(), 1)
    ]


def test_params_that_another_process_of_a_mesh_has_no_room_for_are_not_taken(steps, run, work):
    pipeline = Pipeline(work, Limits(), run, Hub(steps / "cache"), Disagreeing(run.claims(), first=True), quiet=True)
    wanted = wanted_of(steps / "tiny/step2")
    ready = pipeline._stage(pipeline._fetcher.fetch(wanted))
    with pytest.raises(InputError, match="another process of the mesh has no room for it"):
        pipeline._placed(ready.staged)


@pytest.mark.parametrize("first", [True, False])
def test_a_baseline_that_one_process_lacks_all_compute_and_the_first_writes(run, first, monkeypatch):
    run.write_baseline("digest", {"mine": np.zeros(1)})
    coordinator = Disagreeing(Claims(run.path / ".locks"), first)
    computed = {"mine": np.ones(1)}
    monkeypatch.setattr(Baselines, "_digest", lambda self, model: "digest")
    monkeypatch.setattr("jtrace.sweep.baselines.random_init_scores", lambda *about: computed)
    baselines = Baselines([], SoundConfig(), run, coordinator)
    assert baselines.random_init(Untrained(None, (0,), "", "float32"), None) is computed
    assert run.read_baseline("digest")["mine"] == (1 if first else 0)
