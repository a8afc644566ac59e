"""The plan of a sweep: what it asks for, what it measures, what it adds up to."""

import re

import jax.numpy as jnp
import pytest

from jtrace.activations import pack_sets
from jtrace.checkpoints.convert import load_params
from jtrace.checkpoints.hub import Hub
from jtrace.checkpoints.refs import parse_specs
from jtrace.data.packing import operations_per_slot
from jtrace.data.statements import read_all
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.plan import as_text, make_plan
from jtrace.sweep import SweepConfig, trace_into
from tests.hub_server import API, Fault, serve

pytestmark = pytest.mark.usefixtures("hub_client")
REPO = "org/tiny"
CONFIG = SweepConfig(dtype="float32")


@pytest.fixture
def server(steps):
    with serve({(REPO, f"step{number}"): steps / "tiny" / f"step{number}" for number in (2, 10)}) as server:
        yield server


def plan_of(steps, server, spec=f"{REPO}@step2,step10", waits=()):
    hub = Hub(steps / "cache", server.url, waits=waits)
    refs = parse_specs([spec], hub.revisions)
    return make_plan(refs, read_all([str(steps / "mine.csv")]), CONFIG, hub, steps / "run")


def test_sizes_are_the_hub_s_and_no_weights_are_kept(steps, server):
    plan = plan_of(steps, server)
    folder = steps / "tiny/step2"
    needed = [folder / name for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")]
    assert plan.items[0].size == sum(file.stat().st_size for file in needed)
    # What is needed to count the work has come already: config and tokeniser of the first.
    weights = sum((steps / f"tiny/step{n}/model.safetensors").stat().st_size for n in (2, 10))
    assert plan.missing >= weights
    assert not list(steps.rglob("cache/**/model.safetensors"))
    assert plan.feasible


def test_the_work_is_counted_on_the_packed_statements(steps, server):
    work = plan_of(steps, server).work
    (statements,) = read_all([str(steps / "mine.csv")])
    tokens = encode(read_tokenizer(steps / "tiny/step2"), statements.texts)
    config, _ = load_params(steps / "tiny/step2", jnp.float32)
    packed = pack_sets({"mine": tokens}, config).packed
    assert work.slots == packed.used.sum()
    forward = packed.rows * packed.width * operations_per_slot(config, packed.width)
    assert forward < work.operations < forward + 3 * (2 * 40**3 + 5 * 40**2 * 24)


def test_the_download_rate_is_measured(steps, server):
    server.faults["model.safetensors"] = Fault(bytes_per_second=200_000)
    slow = plan_of(steps, server).rate
    assert 50_000 < slow < 400_000


def test_what_is_traced_is_not_planned_again(steps, server):
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([f"{REPO}@step2"], hub.revisions)
    assert trace_into(steps / "run", refs, read_all([str(steps / "mine.csv")]), CONFIG, hub) == 0
    plan = plan_of(steps, server)
    assert [item.done for item in plan.items] == [True, False]
    assert plan.to_trace == 1
    assert "already traced" in as_text(plan)


def test_a_revision_that_is_not_there_fails_the_plan_and_says_why(steps, server):
    plan = plan_of(steps, server, f"{REPO}@step2,step11")
    assert not plan.feasible
    assert "no such revision; nearest of the 2 that there are: step10, step2" in as_text(plan)
    assert "1 to trace of 2" in as_text(plan)


def test_a_disk_too_small_fails_the_plan(steps, server, monkeypatch):
    monkeypatch.setattr(Hub, "free_bytes", lambda self: 1000)
    plan = plan_of(steps, server)
    assert not plan.feasible
    assert "1.0 kB free; TOO SMALL, choose another disk with --cache_dir" in as_text(plan)


def test_without_the_hub_a_suite_s_sizes_are_by_parameter_count(steps, server):
    server.faults[API] = Fault(status=503)
    plan = plan_of(steps, server, "amber:0,359")
    assert [item.size for item in plan.items] == [6_738_415_616 * 4] * 2
    text = as_text(plan)
    assert "size by parameter count" in text
    assert "3,495,886,848" in text
    assert "LLM360--Amber@main" in text
    assert "53.9 GB" in text
    assert "not estimated" in text


def test_known_bad_revisions_are_pointed_out(steps, server):
    server.faults[API] = Fault(status=503)
    assert "EleutherAI/pythia#205" in as_text(plan_of(steps, server, "pythia-2.8b:1000"))


def test_local_folders_need_no_download(steps, server):
    plan = plan_of(steps, server, str(steps / "tiny" / "step*"))
    assert (plan.missing, plan.rate) == (0, None)
    assert re.search(r"in all       about \d+ s", as_text(plan))
    assert server.requests == []
