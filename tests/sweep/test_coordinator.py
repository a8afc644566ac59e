"""A process among those of its sweep: on its own, or in step on one mesh."""

import numpy as np
import pytest

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.runs.open_run import open_run
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep import coordinator
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.coordinator import Alone, OneMesh, coordinator_of
from jtrace.sweep.stages import Failed, TracedElsewhere, Wanted
from jtrace.sweep.work import Work

LATER = "2999-01-01T00:00:00.000+00:00"


@pytest.fixture
def refs(tmp_path) -> list[CheckpointRef]:
    return [CheckpointRef("tiny", f"step{step}", tmp_path / f"step{step}", step) for step in range(5)]


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return open_run(tmp_path / "run", {}, {}, [])


def alone(refs, run, **process) -> Alone:
    return Alone(run.claims(), Work(refs, [], SweepConfig()), run, **process)


# On its own


def test_processes_on_their_own_share_checkpoints_out_by_stripes_of_all(refs, run):
    left = {refs[1], refs[2], refs[3]}
    shares = [alone(refs, run, process=process, processes=2).share_out(refs, left) for process in range(2)]
    assert shares == [{refs[2]}, {refs[1], refs[3]}]


def test_a_checkpoint_is_one_process_s_until_it_is_released(refs, run):
    mine, yours = alone(refs, run), alone(refs, run)
    assert mine.take("tiny@step1")
    assert not yours.take("tiny@step1")
    mine.claims.release("tiny@step1")
    assert yours.take("tiny@step1")


def test_a_process_on_its_own_writes_and_agrees_with_itself(refs, run):
    process = alone(refs, run, process=1, processes=2)
    assert process.writes
    assert [process.agreed(ok) for ok in (True, False)] == [True, False]


def test_what_another_process_has_traced_is_settled(refs, run, monkeypatch):
    monkeypatch.setattr(coordinator, "is_traced", lambda ref, *about: ref == refs[1])
    wanted = [Wanted(ref, "") for ref in refs[:2]]
    assert [alone(refs, run).settled(one) for one in wanted] == [None, TracedElsewhere(wanted[1])]


def test_a_failure_of_another_process_is_not_tried_again_one_of_an_earlier_command_is(refs, run):
    run.record_failure(refs[0], "no such\nfile")
    wanted = Wanted(refs[0], "")
    before, after = alone(refs, run, began="1999"), alone(refs, run, began=LATER)
    assert before.settled(wanted) == Failed(wanted, "no such file", on_record=True)
    assert after.settled(wanted) is None


# On one mesh


def test_the_first_process_of_a_mesh_claims_all_that_is_left_and_free(refs, run):
    other = run.claims()
    assert other.take(refs[2].name)
    assert OneMesh(run.claims(), first=True).share_out(refs, {refs[1], refs[2], refs[4]}) == {refs[1], refs[4]}
    assert [other.take(ref.name) for ref in refs] == [True, False, True, True, False]


def test_the_others_of_a_mesh_go_through_what_the_first_says_and_claim_nothing(refs, run, monkeypatch):
    said = np.array([False, True, False, True, False])
    monkeypatch.setattr(coordinator, "from_first", lambda flags: said)
    assert OneMesh(run.claims(), first=False).share_out(refs, {refs[0], refs[1]}) == {refs[1], refs[3]}
    assert all(run.claims().take(ref.name) for ref in refs)


def test_in_a_mesh_every_checkpoint_s_turn_comes_in_step_and_none_is_settled_elsewhere(refs, run):
    run.record_failure(refs[0], "no such file")
    assert run.claims().take(refs[0].name)
    process = OneMesh(run.claims(), first=False)
    assert process.take(refs[0].name)
    assert process.settled(Wanted(refs[0], "")) is None


def test_one_process_of_a_mesh_writes_and_all_are_asked_whether_they_agree(run, monkeypatch):
    asked = []
    monkeypatch.setattr(coordinator, "all_agree", lambda ok: bool(asked.append(ok)))
    first, other = (OneMesh(run.claims(), first=first) for first in (True, False))
    assert (first.writes, other.writes) == (True, False)
    assert not other.agreed(True)
    assert asked == [True]


@pytest.mark.parametrize(("one_mesh", "form"), [(False, Alone), (True, OneMesh)])
def test_a_sweep_s_work_says_which_form_it_takes(refs, run, one_mesh, form):
    assert isinstance(coordinator_of(Work(refs, [], SweepConfig(), one_mesh=one_mesh), run), form)
