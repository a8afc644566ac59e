"""The plan of a sweep: what it asks for, what it measures, what it adds up to."""

import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.checkpoints.load import load_params
from jtrace.checkpoints.refs import parse_specs
from jtrace.commands.trace import trace_into
from jtrace.data.loading import read_all
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.hub.client import SPARE_BYTES, Hub
from jtrace.inference.packing import operations_per_slot
from jtrace.inference.residuals import pack_sets
from jtrace.probing import memory
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.plan import make_plan, plan_text
from jtrace.sweep.work import Limits
from tests.hub_server import API, Fault, serve

pytestmark = pytest.mark.usefixtures("hub_client")
REPO = "org/tiny"
CONFIG = SweepConfig(dtype="float32")


@pytest.fixture
def server(steps):
    with serve({(REPO, f"step{number}"): steps / "tiny" / f"step{number}" for number in (2, 10)}) as server:
        yield server


def plan_of(steps, server, spec=f"{REPO}@step2,step10", config=CONFIG, limits=None):
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([spec], hub.revisions)
    return make_plan(refs, read_all([str(steps / "mine.csv")]), config, hub, steps / "run", limits=limits)


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
    work = plan_of(steps, server).items[0].work
    (statements,) = read_all([str(steps / "mine.csv")])
    tokens = encode(read_tokenizer(steps / "tiny/step2"), statements.texts)
    config, _ = load_params(steps / "tiny/step2", jnp.float32)
    packed = pack_sets({"mine": tokens}, config).packed
    assert work.slots == packed.used.sum()
    forward = packed.rows * packed.width * operations_per_slot(config, packed.width)
    assert work.operations == forward + 3 * (2 * 40**3 + 4 * 40**2 * 24)


def test_the_download_rate_is_measured(steps, server):
    server.faults["model.safetensors"] = Fault(bytes_per_second=200_000)
    slow = plan_of(steps, server).rate
    assert 50_000 < slow < 400_000


@pytest.mark.slow
def test_what_is_traced_is_not_planned_again(steps, server):
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([f"{REPO}@step2"], hub.revisions)
    assert trace_into(steps / "run", refs, read_all([str(steps / "mine.csv")]), CONFIG, hub) == 0
    plan = plan_of(steps, server)
    assert [item.done for item in plan.items] == [True, False]
    assert len(plan.todo) == 1
    assert "already traced" in plan_text(plan)


def test_a_revision_that_is_not_there_fails_the_plan_and_says_why(steps, server):
    plan = plan_of(steps, server, f"{REPO}@step2,step11")
    assert not plan.feasible
    assert "no such revision; nearest of the 2 that there are: step10, step2" in plan_text(plan)
    assert "1 to trace of 2" in plan_text(plan)


def test_a_disk_too_small_fails_the_plan(steps, server, monkeypatch):
    monkeypatch.setattr(Hub, "free_bytes", lambda self: 1000)
    plan = plan_of(steps, server)
    assert not plan.feasible
    assert re.search(
        r"TOO SMALL +org/tiny@step\d+: .* to download .* choose another disk with --cache_dir", plan_text(plan)
    )


def test_without_the_hub_a_suite_s_sizes_are_by_parameter_count(steps, server):
    server.faults[API] = Fault(status=503)
    plan = plan_of(steps, server, "amber:0,359")
    assert [item.size for item in plan.items] == [6_738_415_616 * 4] * 2
    text = plan_text(plan)
    assert "size by parameter count" in text
    assert "3,495,886,848" in text
    assert "LLM360--Amber@main" in text
    assert "53.9 GB" in text
    assert "not estimated" in text


def test_known_bad_revisions_are_pointed_out(steps, server):
    server.faults[API] = Fault(status=503)
    assert "EleutherAI/pythia#205" in plan_text(plan_of(steps, server, "pythia-2.8b:1000"))


def test_tags_without_a_tokeniser_are_planned_with_the_one_that_their_suite_names(steps, server):
    repo, finished = "bigscience/bloom-560m-intermediate", "bigscience/bloom-560m"
    bare = shutil.copytree(steps / "tiny/step2", steps / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    tags = {(repo, f"global_step{number}"): bare for number in (10_000, 1000)}
    server.refs |= {**tags, (finished, "main"): steps / "tiny/step2"}
    server.tags |= set(tags)
    plan = plan_of(steps, server, "bloom-560m:all")
    assert [item.ref.revision for item in plan.items] == ["global_step1000", "global_step10000"]
    assert plan.feasible
    assert all(item.work for item in plan.items)
    assert {request.path.split("/resolve")[0] for request in server.requests if request.name == "tokenizer.json"} == {
        f"/{finished}"
    }


def test_a_fault_of_a_whole_repository_stands_beside_each_of_its_checkpoints(steps, server):
    repo, names = "common-pile/comma-v0.1-1t", ("stage1-step020000-tokens42B", "stage1-step010000-tokens21B")
    server.refs |= {(repo, name): steps / "tiny/step2" for name in (*names, "main")}
    first, second = (
        line for line in plan_text(plan_of(steps, server, "comma-1t:all")).splitlines() if repo[:6] in line
    )
    for line, name, tokens in ((first, names[1], "21,000,000,000"), (second, names[0], "42,000,000,000")):
        assert re.search(rf"@{name} .* {tokens} .*its tokeniser adds none under transformers 5", line)


def test_local_folders_need_no_download(steps, server):
    plan = plan_of(steps, server, str(steps / "tiny" / "step*"))
    assert (plan.missing, plan.rate) == (0, None)
    assert re.search(r"in all       about \d+ s", plan_text(plan))
    assert server.requests == []


@pytest.mark.slow
def test_every_model_has_its_own_work(steps, server):
    larger = steps / "larger"
    shutil.copytree(steps / "tiny/step2", larger / "step1")
    path = larger / "step1/config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 40', '"intermediate_size": 4000'))
    wider = {
        name: np.repeat(value, 100, axis=int("down" in name)) if ".mlp." in name else value
        for name, value in load_file(larger / "step1/model.safetensors").items()
    }
    save_file(wider, larger / "step1/model.safetensors")
    tiny, large = (item.work for item in plan_of(steps, server, f"{steps}/tiny/step2;{larger}/step1").items)
    assert large.operations > 10 * tiny.operations
    text = plan_text(plan_of(steps, server, f"{steps}/tiny/step2;{larger}/step1"))
    assert "2 to trace of 2" in text


def test_fewer_layers_are_less_work(steps, server):
    work = {
        layers: plan_of(steps, server, config=SweepConfig(dtype="float32", layers=layers)).items[0].work.operations
        for layers in (None, (2,), (0,))
    }
    # Layer 2 alone needs all three blocks, but the statistics of one.
    assert work[None] - work[2,] == 2 * (2 * 40**3 + 4 * 40**2 * 24)
    assert work[0,] < work[2,]


def test_a_file_that_two_revisions_share_is_downloaded_once(steps, server):
    server.refs[REPO, "step10"] = server.refs[REPO, "step2"]
    plan = plan_of(steps, server)
    weights = (steps / "tiny/step2/model.safetensors").stat().st_size
    assert weights <= plan.missing < 2 * weights


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
def test_space_is_asked_for_as_the_downloads_will(steps, server, monkeypatch, keep):
    """For the largest checkpoint, or for all of them where they are kept, and some to spare."""
    limits = Limits(keep_downloads=keep)
    needed = plan_of(steps, server, limits=limits).at_once
    assert needed == plan_of(steps, server).missing if keep else needed < plan_of(steps, server).missing
    monkeypatch.setattr(Hub, "free_bytes", lambda self: needed + SPARE_BYTES - 1)
    assert not plan_of(steps, server, limits=limits).feasible
    monkeypatch.setattr(Hub, "free_bytes", lambda self: needed + SPARE_BYTES)
    assert plan_of(steps, server, limits=limits).feasible


def test_a_budget_below_one_checkpoint_fails_the_plan(steps, server):
    plan = plan_of(steps, server, limits=Limits(disk_budget=1000))
    assert not plan.feasible
    assert re.search(
        r"TOO SMALL +--disk_budget=1\.0 kB: less than org--tiny@step\d+, .* give at least that", plan_text(plan)
    )


@pytest.mark.slow
def test_what_is_traced_may_be_gone_from_the_hub(steps, server):
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([f"{REPO}@step2"], hub.revisions)
    assert trace_into(steps / "run", refs, read_all([str(steps / "mine.csv")]), CONFIG, hub) == 0
    server.remove(REPO, "step2")
    assert plan_of(steps, server).feasible


def test_one_bad_checkpoint_fails_alone(steps, server):
    (steps / "tiny/step2/config.json").write_text('{"model_type": "own", "auto_map": {}}')
    plan = plan_of(steps, server)
    assert [item.fails for item in plan.items] == [True, False]
    assert plan.items[1].work is not None
    assert "the repository's own code is never run" in plan_text(plan)


def test_a_rate_that_cannot_be_measured_leaves_the_rest_of_the_plan(steps, server):
    server.faults["model.safetensors"] = Fault(status=403)
    text = plan_text(plan_of(steps, server))
    assert "no download could be measured" in text
    assert "2 to trace of 2" in text
    assert "in all" not in text


@pytest.mark.slow
def test_a_plan_with_nothing_left_to_do_says_no_more(steps, server):
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([f"{REPO}@step2"], hub.revisions)
    assert trace_into(steps / "run", refs, read_all([str(steps / "mine.csv")]), CONFIG, hub) == 0
    text = plan_text(plan_of(steps, server, f"{REPO}@step2"))
    assert "0 to trace of 1" in text
    assert "compute" not in text


def test_more_rows_than_memory_holds_fail_the_plan_and_the_sweep_before_weights_move(steps, server, monkeypatch):
    assert re.search(
        r"statistics   \d.* of memory for residuals and the matrices of 40 rows", plan_text(plan_of(steps, server))
    )
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000)
    plan = plan_of(steps, server)
    assert not plan.feasible
    assert re.search(
        r"step2: residuals of 40 statements .* 10\.0 kB are there; a set of \d+ rows fits", plan_text(plan)
    )
    hub = Hub(steps / "cache", server.url, waits=())
    refs = parse_specs([f"{REPO}@step2,step10"], hub.revisions)
    with pytest.raises(InputError, match=r"a set of \d+ rows fits"):
        trace_into(steps / "run", refs, read_all([str(steps / "mine.csv")]), CONFIG, hub)
    assert not list(steps.rglob("cache/**/model.safetensors"))
