"""The real huggingface_hub client against a hub on loopback: what is looked up, what is moved, what goes wrong."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest

from jtrace.checkpoints.formats.weights import weight_files
from jtrace.checkpoints.load import load_params
from jtrace.errors import InputError, StoppedError
from jtrace.hub import client as hub_client
from jtrace.hub import resumable_download
from jtrace.hub.client import Hub
from tests.conftest import CHUNK, GOLDENS, ROOT
from tests.hub_server import API, Fault, HubServer, serve

REPO = "org/model"
pytestmark = pytest.mark.usefixtures("hub_client")
WEIGHTS = bytes(np.random.default_rng(0).integers(0, 256, 50 * CHUNK, np.uint8))


def repository(folder: Path, **files: bytes | str) -> Path:
    """A folder with config.json and tokeniser, and the given files (`__` in a name stands for a dot)."""
    folder.mkdir(parents=True)
    for name, content in {"config__json": "{}", "tokenizer__json": f'"{folder.name}"', **files}.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    """A hub with one model at `main`, `step10` and the tag `step20`."""
    step10 = repository(tmp_path / "served/step10", model__safetensors=WEIGHTS, README__md="#", model__gguf=b"x")
    step20 = repository(tmp_path / "served/step20", model__safetensors=WEIGHTS[::-1], modeling__py="raise SystemExit")
    refs = {(REPO, "main"): step20, (REPO, "step10"): step10, (REPO, "step20"): step20}
    with serve(refs, tags={(REPO, "step20")}) as server:
        yield server


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(tmp_path / "cache", server.url, waits=(0, 0, 0))


def refusal(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(files) -> list[str]:
    return [file.name for file in files]


def unfinished(hub: Hub) -> list[Path]:
    return list(hub.cache_dir.rglob("*.incomplete"))


# What a listing says


def test_revisions_are_branches_and_tags_by_one_call(server, hub):
    assert hub.revisions(REPO) == ["main", "step10", "step20"]
    assert [request.path for request in server.requests] == [f"/api/models/{REPO}/refs"]


def test_a_look_tells_commit_files_and_sizes_by_one_call_and_moves_nothing(server, hub):
    listing = hub.look(REPO, "step10")
    assert (listing.repo, listing.revision, listing.commit) == (REPO, "step10", server.commit(REPO, "step10"))
    assert [(file.name, file.size) for file in listing.small] == [("config.json", 2), ("tokenizer.json", 8)]
    assert [(file.name, file.size) for file in listing.weights] == [("model.safetensors", len(WEIGHTS))]
    assert listing.size == hub.missing_bytes(listing) == len(WEIGHTS) + 10
    assert len(server.requests) == 1
    assert not hub.cache_dir.exists()


def test_a_commit_hash_is_a_revision(server, hub):
    commit = server.commit(REPO, "step10")
    assert hub.look(REPO, commit).commit == commit


SHARDS = ("model-1-of-2.safetensors", "model-2-of-2.safetensors")
INDEX = json.dumps({"weight_map": {"a": SHARDS[1], "b": SHARDS[0], "c": SHARDS[1]}})
BIN_INDEX = json.dumps({"weight_map": {"a": "pytorch_model-1-of-1.bin"}})


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        ({"model.safetensors": "s", "pytorch_model.bin": "b"}, ["model.safetensors"]),
        ({"pytorch_model.bin": "b", "optimizer.bin": "o"}, ["pytorch_model.bin"]),
        (
            {"model.safetensors.index.json": INDEX, **dict.fromkeys(SHARDS, "s"), "model-1-of-9.safetensors": "stale"},
            list(SHARDS),
        ),
        (
            {"pytorch_model.bin.index.json": BIN_INDEX, "pytorch_model-1-of-1.bin": "b", "pytorch_model.bak": "b"},
            ["pytorch_model-1-of-1.bin"],
        ),
        ({"pytorch_model.bin": "b", "pytorch_model-1-of-1.bin": "b"}, ["pytorch_model.bin"]),
    ],
)
def test_the_weights_are_those_that_the_reader_would_choose(tmp_path, hub, server, files, weights):
    folder = repository(tmp_path / "other", **{name.replace(".", "__"): text for name, text in files.items()})
    server.refs[REPO, "other"] = folder
    listing = hub.look(REPO, "other")
    assert names(listing.weights) == weights == [path.name for path in weight_files(folder)]
    assert names(listing.small)[2:] == [name for name in files if name.endswith(".index.json")]
    assert [path.name for path in weight_files(hub.fetch(listing))] == weights


def test_files_in_folders_of_the_repository_are_something_else(tmp_path, hub, server):
    server.refs[REPO, "nested"] = folder = repository(tmp_path / "nested", pytorch_model__bin="whole")
    shutil.copytree(server.refs[REPO, "step10"], folder / "earlier")
    assert names(hub.look(REPO, "nested").files) == ["config.json", "tokenizer.json", "pytorch_model.bin"]


# What is moved


def test_only_what_is_needed_is_fetched_and_only_once(server, hub):
    listing = hub.look(REPO, "step20")
    folder = hub.fetch(listing)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert sorted(server.downloads) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert hub.missing_bytes(listing) == 0
    asked = len(server.requests)
    assert hub.fetch(listing) == folder
    assert len(server.requests) == asked


def test_what_is_fetched_is_a_checkpoint_that_can_be_read(tmp_path, hub, server):
    server.refs[REPO, "golden"] = GOLDENS / "llama-full"
    _, params = load_params(hub.fetch(hub.look(REPO, "golden")), np.float32)
    _, expected = load_params(GOLDENS / "llama-full", np.float32)
    assert np.array_equal(params["embedding"], expected["embedding"])


def test_the_small_files_come_alone(server, hub):
    listing = hub.look(REPO, "step10")
    folder = hub.fetch_small(listing)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "tokenizer.json"]
    assert hub.missing_bytes(listing) == len(WEIGHTS)


def test_all_files_are_of_the_commit_that_was_looked_up(server, hub):
    listing = hub.look(REPO, "main")
    server.refs[REPO, "main"] = server.refs[REPO, "step10"]
    folder = hub.fetch(listing)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert (folder / "tokenizer.json").read_text() == '"step20"'
    assert hub.look(REPO, "main").commit == server.commit(REPO, "step10") != listing.commit


def test_weights_that_another_revision_has_brought_are_not_missing(tmp_path, server, hub):
    hub.fetch(hub.look(REPO, "step10"))
    server.refs[REPO, "copy"] = repository(tmp_path / "copy", model__safetensors=WEIGHTS)
    listing = hub.look(REPO, "copy")
    assert hub.missing_bytes(listing) == len('"copy"')
    hub.fetch(listing)
    assert server.downloads.count("model.safetensors") == 1


def test_the_token_goes_to_the_hub_and_not_to_its_second_host(server, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.fetch(hub.look(REPO, "step10"))
    assert {request.authorization for request in server.requests if not request.on_cdn} == {"Bearer hf_secret"}
    assert {request.authorization for request in server.requests if request.on_cdn} == {None}


def test_one_bar_shows_the_bytes_of_all_files_as_they_come_and_counts_them_once(tmp_path, server, hub, monkeypatch):
    bars, updates = [], []

    class Recorded(hub_client.Bar):
        def __init__(self, **about):
            super().__init__(**about)
            bars.extend([self] if about.get("desc") else [])

        def update(self, n=1):
            updates.append(n)
            return super().update(n)

    monkeypatch.setattr(hub_client, "Bar", Recorded)
    server.refs[REPO, "wordy"] = repository(tmp_path / "wordy", tokenizer__json=WEIGHTS, model__safetensors=WEIGHTS)
    listing = hub.look(REPO, "wordy")
    for name in ("tokenizer.json", "model.safetensors"):
        server.faults[name] = Fault(times=2, drop_after=20 * CHUNK + 7, reset=True)
    huggingface_hub.hf_hub_download(REPO, "config.json", cache_dir=hub.cache_dir, endpoint=hub.endpoint)
    hub.fetch(listing, "model@wordy")
    (bar,) = bars
    assert (bar.desc, bar.initial, bar.n, bar.total) == ("model@wordy", 2, listing.size, listing.size)
    assert max(updates) == CHUNK


def test_nothing_is_shown_without_a_label_or_off_a_terminal(hub, capsys):
    hub.fetch(hub.look(REPO, "step10"))
    hub.fetch(hub.look(REPO, "step20"), "model@step20")
    assert capsys.readouterr() == ("", "")
    assert not huggingface_hub.utils.are_progress_bars_disabled()


# What goes wrong on the way


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_dropped_connection_is_resumed_where_it_broke(server, hub, reset):
    server.faults["model.safetensors"] = Fault(times=2, drop_after=20 * CHUNK + 7, reset=reset)
    folder = hub.fetch(hub.look(REPO, "step10"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    starts = [int(text.split("=")[1].rstrip("-")) for text in server.ranges("model.safetensors")[1:]]
    assert starts == sorted(starts)
    assert 0 < starts[0] < starts[1]


class SetInTime(Event):
    """Set once it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_what_one_run_left_the_next_one_carries_on(server, hub):
    listing = hub.look(REPO, "step10")
    folder = hub.fetch_small(listing)
    with pytest.raises(StoppedError):
        hub.fetch(listing, stop=SetInTime(30))
    assert not (folder / "model.safetensors").exists()
    left = unfinished(hub)[0].stat().st_size
    assert hub.missing_bytes(listing) == len(WEIGHTS) - left < len(WEIGHTS)
    folder = hub.fetch(listing)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert server.ranges("model.safetensors") == [None, f"bytes={left}-"]
    assert not unfinished(hub)


def test_a_line_that_drops_again_and_again_gets_there_so_long_as_something_comes(server, hub):
    server.faults["model.safetensors"] = Fault(drop_after=9 * CHUNK, reset=True)
    folder = Hub(hub.cache_dir, hub.endpoint, waits=()).fetch(hub.look(REPO, "step10"))
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert len(server.ranges("model.safetensors")) == 6  # of 50 chunks


@pytest.mark.parametrize(
    ("left", "missing", "message"),
    [
        (b"not what it begins with", len(WEIGHTS) - 23, "with another SHA-256 than listed"),
        (WEIGHTS + b"more", 0, "as more than the 51200 bytes that were listed"),
    ],
    ids=["other bytes", "too many"],
)
def test_an_unfinished_file_that_was_spoilt_is_thrown_away(server, hub, left, missing, message):
    listing = hub.look(REPO, "step10")
    hub.fetch_small(listing)
    blob = hub.cache_dir / "models--org--model/blobs" / listing.weights[0].blob
    blob.with_name(f"{blob.name}.incomplete").write_bytes(left)
    assert hub.missing_bytes(listing) == missing
    assert f"model.safetensors came {message}; it was thrown away" in refusal(hub.fetch, listing)
    assert not unfinished(hub)
    assert (hub.fetch(listing) / "model.safetensors").read_bytes() == WEIGHTS


def test_two_that_fetch_the_same_at_once_do_not_write_into_one_another(server, hub):
    listing = hub.look(REPO, "step10")
    server.faults["model.safetensors"] = Fault(bytes_per_second=300 * CHUNK)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(hub.fetch, [listing, listing]))
    assert (folders[0] / "model.safetensors").read_bytes() == WEIGHTS
    assert server.downloads.count("model.safetensors") == 1


@pytest.mark.parametrize("how", [{"cut_to": 5 * CHUNK}, {"garble": True}], ids=["too few", "others"])
def test_bytes_that_were_not_listed_are_refused_and_fetched_again(server, hub, how):
    listing = hub.look(REPO, "step10")
    server.faults["model.safetensors"] = Fault(times=1, **how)
    assert "model.safetensors came " in refusal(hub.fetch, listing)
    assert not (hub.fetch_small(listing) / "model.safetensors").exists()
    assert not unfinished(hub)
    assert (hub.fetch(listing) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_small_file_of_another_size_is_refused_and_fetched_again(server, hub):
    listing = hub.look(REPO, "step10")
    server.faults["tokenizer.json"] = Fault(cut_to=3)
    assert "tokenizer.json came as 3 bytes, 8 were listed" in refusal(hub.fetch, listing)
    assert not list(hub.cache_dir.rglob("snapshots/*/tokenizer.json"))
    del server.faults["tokenizer.json"]
    assert (hub.fetch(listing) / "tokenizer.json").read_text() == '"step10"'


def test_a_file_cut_short_in_the_cache_is_fetched_again(server, hub):
    listing = hub.look(REPO, "step10")
    weights = hub.fetch(listing) / "model.safetensors"
    with weights.open("rb+") as file:
        file.truncate(7)
    assert hub.missing_bytes(listing) == len(WEIGHTS)
    hub.fetch(listing)
    assert weights.read_bytes() == WEIGHTS


@pytest.mark.parametrize("where", [API, "config.json", "model.safetensors"])
def test_server_errors_that_pass_are_waited_for(server, hub, where):
    server.faults[where] = Fault(times=2, status=503)
    assert (hub.fetch(hub.look(REPO, "step10")) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("where", [API, "config.json", "model.safetensors"])
def test_server_errors_that_stay_are_reported_after_a_bounded_number_of_attempts(server, hub, where):
    server.faults[where] = fault = Fault(status=500)
    message = refusal(lambda: hub.fetch(hub.look(REPO, "step10")))
    assert message.startswith(f"{REPO}@step10: {server.url} cannot be reached (HTTP 500); the same command goes on")
    assert fault.spoilt < 40


def test_a_connection_that_drops_without_a_byte_is_given_up(server, hub):
    server.faults["model.safetensors"] = fault = Fault(drop_after=0)
    assert "cannot be reached (RemoteProtocolError" in refusal(hub.fetch, hub.look(REPO, "step10"))
    assert fault.spoilt < 40


def test_the_waits_between_attempts_grow(server, hub, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(resumable_download, "time", SimpleNamespace(sleep=slept.append))
    server.faults[API] = Fault(status=503)
    refusal(Hub(hub.cache_dir, hub.endpoint).look, REPO, "step10")
    assert slept == [1, 2, 4, 8, 16]


def test_a_slow_server_is_waited_for_but_not_a_silent_one(server, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    listing = hub.look(REPO, "step10")
    server.faults["model.safetensors"] = Fault(bytes_per_second=2)
    assert "cannot be reached (ReadTimeout" in refusal(Hub(hub.cache_dir, hub.endpoint, waits=()).fetch, listing)
    server.faults["model.safetensors"] = Fault(bytes_per_second=200 * CHUNK)
    assert (hub.fetch(listing) / "model.safetensors").read_bytes() == WEIGHTS


def test_a_disk_too_small_is_told_before_anything_moves(server, hub, monkeypatch):
    usage = namedtuple("usage", "total used free")
    listing = hub.look(REPO, "step10")
    asked = len(server.requests)
    enough = listing.size + hub_client.SPARE_BYTES
    monkeypatch.setattr(hub_client.shutil, "disk_usage", lambda path: usage(10**12, 0, enough - 1))
    message = refusal(hub.fetch, listing)
    assert f"{REPO}@step10: 51.2 kB to download (and 537 MB to spare), but 537 MB free on the disk of" in message
    assert str(hub.cache_dir) in message
    assert "--cache_dir" in message
    assert len(server.requests) == asked
    monkeypatch.setattr(hub_client.shutil, "disk_usage", lambda path: usage(10**12, 0, enough))
    hub.fetch(listing)
    monkeypatch.setattr(hub_client.shutil, "disk_usage", lambda path: usage(10**12, 0, 0))
    hub.fetch(listing)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, server, hub):
    (tmp_path / "file").touch()
    message = refusal(Hub(tmp_path / "file/cache", server.url).fetch, hub.look(REPO, "step10"))
    assert f"the cache {tmp_path}/file/cache fails" in message


# What is not there


def test_an_unknown_repository_may_be_a_private_one(server, hub):
    for call in (hub.revisions, lambda repo: hub.look(repo, "main")):
        message = refusal(call, "org/other")
        assert f"no such model on {server.url}, or a private one" in message
        assert "HF_TOKEN" in message
    assert len(server.requests) == 2


def test_a_gated_repository_says_where_to_accept_its_terms(server, hub):
    listing = hub.look(REPO, "step10")
    server.gated.add(REPO)
    for call in (hub.fetch_small, hub.fetch):
        message = refusal(call, listing)
        assert f"gated; accept its terms at {server.url}/{REPO}" in message
        assert "HF_TOKEN" in message
    assert not any(path.is_file() for path in hub.cache_dir.rglob("snapshots/*/*"))


def test_a_refused_token_is_told(server, hub):
    server.faults[API] = Fault(status=401)
    assert "refuses the token; check HF_TOKEN" in refusal(hub.look, REPO, "main")


@pytest.mark.parametrize(
    ("revision", "nearest"), [("step11", "step10, step20, main"), ("mian", "main, step10, step20")]
)
def test_a_missing_revision_names_the_nearest_that_exist(server, hub, revision, nearest):
    message = refusal(hub.look, REPO, revision)
    assert message == f"{REPO}@{revision}: no such revision; nearest of the 3 that there are: {nearest}"


def test_a_revision_that_vanished_after_the_look_is_told(server, hub):
    listing = hub.look(REPO, "step10")
    server.remove(REPO, "step10")
    assert "no such revision; nearest of the 2" in refusal(hub.fetch, listing)


def test_a_repository_without_readable_weights_says_what_it_holds(tmp_path, server, hub):
    server.refs[REPO, "gguf"] = repository(tmp_path / "gguf", model__gguf="g", modeling__py="raise SystemExit")
    message = refusal(hub.look, REPO, "gguf")
    assert "no weights that jtrace reads" in message
    assert "only config.json, model.gguf, modeling.py, tokenizer.json" in message


def test_a_repository_without_config_is_refused(tmp_path, server, hub):
    server.refs[REPO, "bare"] = folder = repository(tmp_path / "bare", model__safetensors="s")
    (folder / "config.json").unlink()
    assert "no config.json, only model.safetensors, tokenizer.json" in refusal(hub.look, REPO, "bare")


def test_models_in_folders_of_a_repository_are_named_and_what_to_do(tmp_path, server, hub):
    for name in ("step1", "step2"):
        repository(tmp_path / "nested" / name, model__safetensors="s")
    server.refs[REPO, "nested"] = tmp_path / "nested"
    message = refusal(hub.look, REPO, "nested")
    assert message == (
        f"{REPO}@nested: no config.json at the top, but in folders, which jtrace does not read: step1, step2; "
        "download one and name the local folder"
    )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "no weight_map"),
        ('{"weight_map": []}', "no weight_map"),
        ('{"weight_map": {"a": "model-1-of-1.safetensors"}}', "of its folder: model-1-of-1.safetensors"),
        ('{"weight_map": {"a": "modeling.py"}}', "names no .safetensors files of its folder: modeling.py"),
        ('{"weight_map": {"a": "earlier/model.safetensors"}}', "of its folder: earlier/model.safetensors"),
    ],
)
def test_an_index_that_names_no_weights_of_the_repository_is_refused(tmp_path, server, hub, index, message):
    folder = repository(tmp_path / "indexed", model__safetensors__index__json=index, modeling__py="raise SystemExit")
    shutil.copytree(server.refs[REPO, "step10"], folder / "earlier")
    server.refs[REPO, "indexed"] = folder
    assert message in refusal(hub.look, REPO, "indexed")
    assert "modeling.py" not in server.downloads


@pytest.mark.parametrize("repo", ["a/b/c", "../x", "a--b", "org/", "what is this"])
def test_a_malformed_repository_id_is_refused_unasked(server, hub, repo):
    assert "is no repository of the hub" in refusal(hub.look, repo, "main")
    assert "is no repository of the hub" in refusal(hub.revisions, repo)
    assert not server.requests


@pytest.mark.parametrize("revision", ["", "../../../etc", "a//b"])
def test_a_malformed_revision_is_refused_unasked(server, hub, revision):
    assert "not the name of a branch or tag" in refusal(hub.look, REPO, revision)
    assert not server.requests


def test_a_server_that_is_no_hub_is_told(tmp_path, hub, server, monkeypatch):
    monkeypatch.setattr("tests.hub_server._Handler.answer_info", lambda handler, *about: handler.send_json({"id": "x"}))
    assert "no commit hash and list of files came" in refusal(hub.look, REPO, "main")
    monkeypatch.setattr("tests.hub_server._Handler.answer_info", lambda handler, *about: handler.send_head(200, 0, {}))
    assert "does not answer like a hub" in refusal(hub.look, REPO, "main")


# Without the hub


@pytest.fixture(params=["HF_HUB_OFFLINE", "no connection", "server errors"])
def lost(request, server, hub, monkeypatch) -> Hub:
    """The same cache, once the hub cannot be reached."""
    hub.fetch(hub.look(REPO, "step10"))
    hub.fetch_small(hub.look(REPO, "step20"))
    match request.param:
        case "HF_HUB_OFFLINE":
            monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        case "no connection":
            with serve({}) as closed:
                pass
            return Hub(hub.cache_dir, closed.url, waits=(0,))
        case "server errors":
            server.faults |= {name: Fault(status=502) for name in (API, "config.json", "model.safetensors")}
    return hub


def test_a_revision_that_the_cache_holds_whole_needs_no_hub(lost, server):
    listing = lost.look(REPO, "step10")
    assert (listing.commit, names(listing.files)) == (
        server.commit(REPO, "step10"),
        ["config.json", "tokenizer.json", "model.safetensors"],
    )
    assert lost.missing_bytes(listing) == 0
    folder = lost.fetch(listing)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert lost.fetch_small(listing) == folder


def test_one_that_it_holds_in_part_does_and_the_whole_ones_are_named(lost, server):
    message = refusal(lost.look, REPO, "step20")
    assert message.startswith(f"{REPO}@step20: {lost.endpoint} ")
    assert "cannot be reached (" in message
    assert message.endswith("holds them whole: step10")


def test_where_the_cache_can_answer_an_absent_hub_is_hardly_waited_for(lost, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(resumable_download, "time", SimpleNamespace(sleep=slept.append))
    Hub(lost.cache_dir, lost.endpoint).look(REPO, "step10")
    assert slept in ([], [1.0])


def test_weights_without_config_are_not_a_whole_revision(lost):
    (lost.fetch(lost.look(REPO, "step10")) / "config.json").unlink()
    assert "holds them whole: no revisions" in refusal(lost.look, REPO, "step10")


def test_a_cache_in_which_the_revision_cannot_be_noted_serves_all_the_same(hub):
    listing = hub.look(REPO, "step10")
    hub.fetch_small(listing)
    (hub.cache_dir / "models--org--model/refs").touch()
    assert (hub.fetch(listing) / "model.safetensors").read_bytes() == WEIGHTS


def test_the_environment_alone_points_to_the_hub(server, tmp_path):
    script = (
        "from jtrace.hub.client import Hub; hub = Hub();"
        f"print(hub.fetch(hub.look({REPO!r}, 'step10'), progress='model'))"
    )
    environment = os.environ | server.environment | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "home/hub")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_hub_that_says_nothing_is_given_up(silent, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub = Hub(tmp_path / "cache", silent, waits=())
    assert "cannot be reached" in refusal(hub.revisions, REPO)
    assert "cannot be reached" in refusal(hub.look, REPO, "main")


def test_a_rate_is_measured_on_a_piece_and_for_a_while_only(server, hub, monkeypatch):
    listing = hub.look(REPO, "step10")
    monkeypatch.setattr(hub_client, "SAMPLE_BYTES", 10 * CHUNK)
    assert hub.measured_rate(listing) > 0
    assert server.ranges("model.safetensors")[-1] == f"bytes=0-{10 * CHUNK - 1}"
    monkeypatch.setattr(hub_client, "SAMPLE_SECONDS", 0.2)
    monkeypatch.setattr(hub_client, "SAMPLE_CHUNK", 1)
    server.faults["model.safetensors"] = Fault(bytes_per_second=2000)
    started = time.monotonic()
    hub.measured_rate(listing)
    assert time.monotonic() - started < 3


def test_a_gated_file_is_no_absent_hub(server, hub):
    listing = hub.look(REPO, "step10")
    server.faults["model.safetensors"] = Fault(status=403)
    assert "refuses" in refusal(hub.measured_rate, listing)


def test_a_file_that_another_process_finishes_meanwhile_is_left_alone(server, hub, monkeypatch):
    """Both look, one fetches while the other is about to."""
    listing, original = hub.look(REPO, "step10"), hub_client.with_retries

    def late(*about):
        monkeypatch.setattr(hub_client, "with_retries", original)
        Hub(hub.cache_dir, hub.endpoint, waits=()).fetch(listing)
        return original(*about)

    monkeypatch.setattr(hub_client, "with_retries", late)
    hub.fetch(listing)
    assert server.downloads.count("model.safetensors") == 1
