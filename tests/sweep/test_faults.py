"""What goes wrong in a sweep stays with its checkpoint, is said in one line, and is made good by the same command."""

import errno
import gc
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.errors import InputError, WriteError
from jtrace.hub import client, resumable_download
from jtrace.hub.client import Hub
from jtrace.runs import log
from jtrace.sweep import fetch as sweep_fetch
from jtrace.sweep import pipeline
from jtrace.sweep.config import SweepConfig
from tests.cases import few
from tests.conftest import CHUNK
from tests.hub_server import API, Fault, HubServer, serve
from tests.tiny_sweep import REPO, WEIGHTS, results, served, strays, trace, traced, weights_in, write_steps

STEPS = ["step2", "step10", "step100", "step1000"]
BAD = REPO, "step10"
OTHERS = ["step2", "step100", "step1000"]

pytestmark = pytest.mark.usefixtures("hub_client", "quick")


@pytest.fixture
def quick() -> Iterator[None]:
    """Looking for garbage in all that the tests have imported takes most of a tiny sweep."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> Path:
    return write_steps(tmp_path_factory.mktemp("steps"), [2, 10, 100, 1000])


@pytest.fixture(scope="module")
def untroubled_run(steps, tmp_path_factory) -> Path:
    """A sweep in which nothing goes wrong."""
    folder = tmp_path_factory.mktemp("untroubled")
    with pytest.MonkeyPatch.context() as patch, serve(served(steps)) as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr("jtrace.commands.trace.draw_all", lambda run, metrics: [])
        assert trace(folder / "run", steps, server, folder / "cache") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def untroubled(untroubled_run) -> dict[str, bytes]:
    return results(untroubled_run)


@pytest.fixture
def server(steps) -> Iterator[HubServer]:
    with serve(served(steps)) as server:
        yield server


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def again(run, steps, server, cache) -> Callable[..., int]:
    """The command; the same one each time."""
    return partial(trace, run, steps, server, cache)


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[..., None]]:
    """Mounts a small disk at a folder; with the option `remount` it becomes another size."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str, *options: str) -> None:
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("disks are mounted by root only")
        mounted.extend({folder} - set(mounted))

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def failures(run: Path) -> dict[str, str]:
    path = run / "failures.jsonl"
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return {line["checkpoint"].split("@")[1]: line["error"] for line in lines}


def logged(run: Path) -> list[str]:
    return [passage.checkpoint.split("@")[1] for passage in log.read(run / "log.jsonl")]


def after_first(monkeypatch, act: Callable[[], object]) -> None:
    """Do something once the first checkpoint has been traced and logged, before the second is computed."""
    original, begun = pipeline.trace_checkpoint, []

    def wrapped(checked, *args, **kwargs):
        begun.append(checked.ref.name)
        if len(begun) == 2:
            act()
        return original(checked, *args, **kwargs)

    monkeypatch.setattr(pipeline, "trace_checkpoint", wrapped)


def compute_slowly(monkeypatch) -> None:
    """So that what happens meanwhile has the time to."""
    original = pipeline.trace_checkpoint

    def slowly(*args):
        time.sleep(0.3)
        return original(*args)

    monkeypatch.setattr(pipeline, "trace_checkpoint", slowly)


# One checkpoint of four


def on_the_way(**fault):
    """Something goes wrong between the hub and this machine."""

    def spoil(server: HubServer, folder: Path) -> None:
        server.faults[f"{server.commit(*BAD)}/{WEIGHTS}"] = Fault(**fault)

    return spoil


def at_the_source(change: Callable[[Path], object]):
    """The checkpoint itself is at fault: `change` spoils its folder."""

    def spoil(server: HubServer, folder: Path) -> None:
        shutil.copytree(server.refs[BAD], folder / "spoilt")
        change(folder / "spoilt")
        server.refs[BAD] = folder / "spoilt"

    return spoil


def with_weight(value: float):
    def change(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        weights["model.embed_tokens.weight"][0, 0] = value
        save_file(weights, folder / WEIGHTS)

    return at_the_source(change)


def narrowed(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({name: np.ascontiguousarray(value[..., :12]) for name, value in weights.items()}, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        pytest.param(on_the_way(cut_to=1000), "as 1000 bytes, 77568 were listed", id="truncated"),
        pytest.param(
            on_the_way(garble=True), "with another SHA-256 than listed", id="other bytes", marks=pytest.mark.long
        ),
        pytest.param(on_the_way(status=404), "refuses (", id="404", marks=pytest.mark.long),
        pytest.param(on_the_way(status=500), "cannot be reached (HTTP 500)", id="500", marks=pytest.mark.long),
        pytest.param(
            on_the_way(drop_after=0), "cannot be reached (RemoteProtocolError", id="dropped", marks=pytest.mark.long
        ),
        pytest.param(
            on_the_way(drop_after=0, reset=True), "cannot be reached (ReadError", id="reset", marks=pytest.mark.long
        ),
        pytest.param(on_the_way(stall_after=0), "cannot be reached (ReadTimeout", id="stalled", marks=pytest.mark.long),
        pytest.param(with_weight(np.nan), "NaN or infinite values", id="NaN", marks=pytest.mark.slow),
        pytest.param(with_weight(np.inf), "NaN or infinite values", id="infinity", marks=pytest.mark.long),
        pytest.param(at_the_source(narrowed), "config.json asks for", id="other shapes", marks=pytest.mark.long),
        pytest.param(
            at_the_source(lambda f: (f / "config.json").unlink()),
            "no config.json",
            id="no config",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_faulty_checkpoint_fails_alone_and_is_all_that_the_same_command_then_does(
    spoil, cause, run, cache, server, again, untroubled, tmp_path, monkeypatch, capsys
):
    if "ReadTimeout" in cause:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    good = server.refs[BAD]
    spoil(server, tmp_path)
    assert again() == 1
    assert traced(run) == OTHERS
    assert list(failures(run)) == ["step10"]
    assert cause in failures(run)["step10"]
    assert "\n" not in failures(run)["step10"]
    printed = capsys.readouterr().err
    assert [line for line in printed.splitlines() if cause in line] == [
        f"error: [2/4] org--tiny@step10: {failures(run)['step10']}"
    ]
    assert "Traceback" not in printed
    assert weights_in(cache) == []

    server.faults.clear()
    server.refs[BAD] = good
    server.requests.clear()
    assert again() == 0
    assert logged(run) == [*OTHERS, "step10"]
    assert server.downloads.count(WEIGHTS) == 1
    assert results(run) == untroubled
    assert failures(run) == {}
    assert weights_in(cache) == []


@pytest.mark.parametrize(("outage", "status"), [pytest.param(3, 0, marks=pytest.mark.slow), (100, 1)])
def test_a_hub_that_vanishes_in_the_middle_is_waited_for(outage, status, run, server, again, monkeypatch, capsys):
    """One that never answered is not, and a file that it alone does not serve neither."""
    monkeypatch.setattr(sweep_fetch, "OUTAGES", (0.01,) * 5)
    fetched, original = [], Hub.fetch

    def fetch(hub, listing, *args):
        fetched.append(listing.revision)
        if len(fetched) == 2:
            server.faults |= {API: Fault(status=503, times=outage), WEIGHTS: Fault(status=503, times=outage)}
        return original(hub, listing, *args)

    monkeypatch.setattr(Hub, "fetch", fetch)
    assert again() == status
    assert fetched.count(fetched[1]) == (outage + 1 if status == 0 else 6)
    assert "cannot be reached (HTTP 503)" in capsys.readouterr().err
    assert len(traced(run)) == (4 if status == 0 else 1)
    # Once it has been waited for in vain, the others are tried once.
    assert [fetched.count(revision) for revision in fetched[-2:]] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "slept"),
    [
        pytest.param(Fault(drop_after=9 * CHUNK, times=2), [], id="dropped twice", marks=pytest.mark.long),
        pytest.param(Fault(drop_after=0, times=2), [1.0, 8.0], id="dropped for a while"),
        pytest.param(Fault(status=503, times=2), [1.0, 8.0], id="out of service for a while", marks=pytest.mark.long),
        pytest.param(Fault(reset=True, drop_after=9 * CHUNK, times=2), [], id="reset twice", marks=pytest.mark.long),
        pytest.param(Fault(stall_after=40 * CHUNK), [], id="stalled half way"),
    ],
)
def test_a_fault_that_passes_is_waited_for_longer_each_time(fault, slept, run, server, again, untroubled, monkeypatch):
    waits = []
    monkeypatch.setattr(resumable_download, "time", SimpleNamespace(sleep=waits.append))
    if fault.stall_after:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1.0)
    server.faults[f"{server.commit(*BAD)}/{WEIGHTS}"] = fault
    assert again(waits=(1.0, 8.0)) == 0
    assert waits == slept
    assert results(run) == untroubled


@pytest.mark.slow
def test_after_so_many_failures_the_sweep_is_given_up(run, server, again, untroubled):
    for step in ("step2", "step100"):
        server.faults[f"{server.commit(REPO, step)}/{WEIGHTS}"] = Fault(garble=True)
    with pytest.raises(InputError, match=r"given up after 2 failures, as --max_failures says; see .*failures\.jsonl"):
        again(max_failures=2)
    assert traced(run) == ["step10"]
    assert list(failures(run)) == ["step2", "step100"]

    server.faults.clear()
    assert again(max_failures=2) == 0
    assert results(run) == untroubled


# Disks


@pytest.mark.slow
def test_a_full_cache_fails_the_checkpoint_that_does_not_fit(run, cache, server, again, untroubled, monkeypatch):
    original, commit = client.download, server.commit(*BAD)

    def fill(url, unfinished, *about):
        if commit in url and url.endswith(WEIGHTS):
            unfinished.write_bytes(b"x" * 1000)
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(url, unfinished, *about)

    with monkeypatch.context() as patch:
        patch.setattr(client, "download", fill)
        assert again() == 1
    assert traced(run) == OTHERS
    assert f"the cache {cache} fails ([Errno 28] No space left on device)" in failures(run)["step10"]
    assert weights_in(cache) == []
    assert again() == 0
    assert results(run) == untroubled


@pytest.mark.slow
def test_a_cache_disk_that_holds_one_checkpoint_suffices(run, cache, again, untroubled, disk, monkeypatch):
    disk(cache, "200k")
    for module in ("hub.client", "sweep.fetch"):
        monkeypatch.setattr(f"jtrace.{module}.SPARE_BYTES", 0)
    monkeypatch.setattr(sweep_fetch, "POLL", 0.05)
    assert again() == 0
    assert results(run) == untroubled


@pytest.mark.slow
def test_a_run_directory_on_a_full_disk_ends_the_sweep_and_nothing_is_lost(run, cache, again, untroubled, disk, capsys):
    disk(run, "64k")
    with pytest.raises(InputError, match=f"{run}: takes no files any more; free or mend its disk"):
        again()
    assert "Traceback" not in capsys.readouterr().err
    done = traced(run)
    assert 0 < len(done) < 4
    left = results(run)
    assert {f"metrics/org--tiny@{step}.parquet" for step in done} <= left.keys()
    assert left.items() <= untroubled.items()
    assert strays(run) == []

    disk(run, "1m", "remount")
    assert again() == 0
    assert results(run) == untroubled
    assert failures(run) == {}
    assert weights_in(cache) == []


def test_a_read_only_run_directory_is_refused_before_anything_is_fetched(run, server, again, disk):
    disk(run, "1m", "ro")
    with pytest.raises(InputError, match=rf"--out={run}: cannot be written \(Read-only file system\)"):
        again()
    assert server.downloads == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        SweepConfig(dtype="float32"),
        pytest.param(SweepConfig(dtype="float32", keep_activations=True), marks=pytest.mark.long),
        pytest.param(SweepConfig(dtype="float32", vector_kinds=("mass_mean", "pca")), marks=pytest.mark.long),
    ],
    ids=["plain", "activations", "kinds of vectors"],
)
def test_a_run_directory_that_vanishes_is_not_made_anew_and_goes_on_where_it_has_gone(
    config, run, cache, steps, server, again, untroubled, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        after_first(patch, lambda: run.rename(tmp_path / "moved"))
        with pytest.raises(InputError, match=f"{run}: takes no files any more"):
            again(config=config)
    assert not run.exists()
    assert traced(tmp_path / "moved") == ["step2"]

    assert trace(tmp_path / "moved", steps, server, cache, config=config) == 0
    assert untroubled.items() <= results(tmp_path / "moved").items()
    assert weights_in(cache) == []


# What a crash has left


def half(table: Path) -> None:
    os.truncate(table, table.stat().st_size // 2)


def zeros(table: Path) -> None:
    table.write_bytes(bytes(table.stat().st_size))


def flipped(column: str):
    """A few bytes flipped in the middle of a column's values, where only a checksum can tell."""

    def flip(table: Path) -> None:
        about = pq.ParquetFile(table).metadata.row_group(0)
        chunk = about.column([about.column(i).path_in_schema for i in range(about.num_columns)].index(column))
        at = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size // 2
        content = bytearray(table.read_bytes())
        for i in range(at, at + 4):
            content[i] ^= 0x55
        table.write_bytes(content)

    return pytest.param(flip, id=f"flipped {column}")


@pytest.mark.parametrize(
    "spoil", few([half, zeros, lambda table: os.truncate(table, 0), *map(flipped, ["value", "metric", "n"])], 2)
)
def test_a_damaged_table_is_named_and_traced_again(spoil, run, again, untroubled_run, untroubled, capsys):
    shutil.copytree(untroubled_run, run)
    table = run / "metrics/org--tiny@step10.parquet"
    spoil(table)
    assert again() == 0
    assert f"warning: {table} is damaged; its checkpoint is traced again" in capsys.readouterr().err
    assert logged(run) == [*STEPS, "step10"]
    assert results(run) == untroubled


def test_torn_lines_of_the_log_are_passed_over(run, again, untroubled_run):
    shutil.copytree(untroubled_run, run)
    path = run / "log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:100] + "\n" + "\0\0\0\n" + lines[2] + lines[3][:50])
    (run / "metrics/org--tiny@step1000.parquet").unlink()
    assert again() == 0
    assert logged(run) == ["step2", "step100", "step1000"]


@pytest.mark.slow
def test_a_damaged_list_of_failures_is_named_before_anything_is_fetched(run, server, again, untroubled):
    server.faults[f"{server.commit(*BAD)}/{WEIGHTS}"] = Fault(garble=True)
    assert again() == 1
    path = run / "failures.jsonl"
    path.write_text(path.read_text()[:40])
    server.faults.clear()
    server.requests.clear()
    with pytest.raises(InputError, match=r"failures\.jsonl: not readable; delete it, it is written anew"):
        again()
    assert server.downloads == []
    path.unlink()
    assert again() == 0
    assert results(run) == untroubled


@pytest.mark.slow
def test_a_checkpoint_that_is_traced_after_all_is_no_failure_any_more(run, again, untroubled, monkeypatch):
    """A process that is killed between a table and the list of failures, or whose log is full, leaves both."""
    original = log.append

    def refuse_one(path, passage):
        if passage.checkpoint.endswith("step10"):
            raise WriteError(f"{path}: cannot be written (No space left on device)")
        original(path, passage)

    with monkeypatch.context() as patch:
        patch.setattr(log, "append", refuse_one)
        again()
    assert again() == 0
    assert results(run) == untroubled
    assert failures(run) == {}


# Budgets


def size(steps: Path) -> int:
    return (steps / "step2" / WEIGHTS).stat().st_size


class Watch:
    """Looks again and again at how many bytes of weights a cache holds, and keeps the most."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.most, self._end = cache, 0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._end.wait(0.001):
            found = 0
            for path in weights_in(self.cache):
                try:
                    found += path.stat().st_size
                except FileNotFoundError:  # finished or removed meanwhile
                    continue
            self.most = max(self.most, found)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.mark.slow
def test_downloads_keep_within_the_disk_budget(run, cache, steps, server, again, untroubled, tmp_path, monkeypatch):
    compute_slowly(monkeypatch)
    server.bytes_per_second = 1e6
    with Watch(cache) as watch:
        assert again(disk_budget=size(steps) * 3 // 2) == 0
    assert size(steps) * 0.9 < watch.most <= size(steps) * 1.5
    assert results(run) == untroubled

    # Without it they run ahead, as far as there is room.
    with Watch(tmp_path / "other") as watch:
        assert trace(tmp_path / "unbound", steps, server, tmp_path / "other") == 0
    assert watch.most > size(steps) * 1.5


def test_a_disk_budget_below_one_checkpoint_is_refused_before_weights_move(steps, server, again):
    with pytest.raises(InputError, match=r"--disk_budget=.*: less than org--tiny@step2, .*; give at least that"):
        again(disk_budget=size(steps) // 2)
    assert WEIGHTS not in server.downloads


def test_a_memory_budget_below_one_checkpoint_is_refused_before_weights_move(run, steps, server, again):
    with pytest.raises(
        InputError, match=r"--memory_budget=.* less than the params of org--tiny@step\d+, .* give at least"
    ):
        again(memory_budget=size(steps) // 2)
    assert WEIGHTS not in server.downloads


@pytest.mark.slow
@pytest.mark.parametrize(("checkpoints", "at_once"), [(1.2, 1), (2.2, 2)])
def test_params_on_the_host_keep_within_the_memory_budget(
    checkpoints, at_once, steps, run, again, untroubled, monkeypatch
):
    """Each checkpoint is computed only once the next one has been read, or has had its time to be."""
    staged, held, most = threading.Condition(), [], []
    stage, compute = pipeline.stage_checkpoint, pipeline.trace_checkpoint

    def staging(path, *args):
        with staged:
            held.append(path)
            most.append(len(held))
            staged.notify()
        return stage(path, *args)

    def computing(checked, *args):
        with staged:
            staged.wait_for(lambda: len(held) == 2, timeout=0.5)
        done = compute(checked, *args)
        held.remove(checked.folder)
        return done

    monkeypatch.setattr(pipeline, "stage_checkpoint", staging)
    monkeypatch.setattr(pipeline, "trace_checkpoint", computing)
    assert again(memory_budget=int(checkpoints * size(steps))) == 0
    assert max(most) == at_once
    assert results(run) == untroubled


@pytest.mark.slow
def test_downloads_are_kept_where_that_is_wanted(run, cache, again, untroubled):
    assert again(keep_downloads=True) == 0
    assert len(weights_in(cache)) == 4
    assert results(run) == untroubled


@pytest.mark.slow
def test_what_was_in_the_cache_before_the_sweep_stays(run, cache, server, again):
    hub = Hub(cache, server.url, waits=())
    folder = hub.fetch(hub.look(*BAD))
    before = (folder / WEIGHTS).resolve()
    assert again() == 0
    assert weights_in(cache) == [before]
    assert server.downloads.count(WEIGHTS) == 4


# Overlap


@pytest.mark.slow
def test_the_next_checkpoint_is_fetched_while_one_is_computed(run, steps, server, again, untroubled, monkeypatch):
    compute_slowly(monkeypatch)
    server.bytes_per_second = size(steps) / 1.0
    assert again() == 0
    passages = log.read(run / "log.jsonl")
    for one, following in itertools.pairwise(passages):
        assert following.fetch.start < one.compute.end
        assert one.compute.start < following.fetch.end
    assert all(passage.fetch.seconds > 0.9 for passage in passages)
