"""A hub that attacks its client: nothing outside the cache is written or removed, and nothing unproven is used.

All attacks come from a hub on loopback, started here. Around the cache lie sentinel files; after every attack the whole
tree around it is what it was.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data import sources
from jtrace.errors import InputError
from jtrace.hub import cache
from jtrace.hub.client import Hub
from jtrace.sweep.eviction import Downloads
from tests.cases import few
from tests.conftest import CHUNK
from tests.hub_server import API, Fault, HubServer, serve

REPO = "org/model"
pytestmark = pytest.mark.usefixtures("hub_client")
WEIGHTS = bytes(np.random.default_rng(0).integers(0, 256, 50 * CHUNK, np.uint8))
SIZE_OF = cache.size_of
SHARD = "model-1-of-1.safetensors"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    """A hub with one model, whole at `main` and sharded at `sharded`."""
    files = {"config.json": b"{}", "tokenizer.json": b'"tokeniser"'}
    index = b'{"weight_map": {"a": "%s"}}' % SHARD.encode()
    weights = {"main": {"model.safetensors": WEIGHTS}}
    weights["sharded"] = {"model.safetensors.index.json": index, SHARD: WEIGHTS}
    for revision, named in weights.items():
        folder = tmp_path / "served" / revision
        folder.mkdir(parents=True)
        for name, content in (files | named).items():
            (folder / name).write_bytes(content)
    with serve({(REPO, revision): tmp_path / "served" / revision for revision in weights}) as server:
        yield server


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody's files beside the cache."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "victim").write_text("somebody's work")
    (folder / "model.safetensors").write_bytes(b"somebody's weights")
    (folder / ("a" * 64)).write_text("named like a hash")
    return folder


@pytest.fixture
def hub(server: HubServer, outside: Path, tmp_path: Path) -> Iterator[Hub]:
    """A client whose surroundings are compared before and after."""
    hub = Hub(tmp_path / "cache", server.url, waits=())
    before = tree(tmp_path)
    yield hub
    assert tree(tmp_path) == before


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of all that lies in a folder, except in the cache."""
    paths = [path for path in folder.rglob("*") if not path.is_relative_to(folder / "cache")]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths if path.is_file()}


def refusal(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def fetch(hub: Hub, revision: str = "main") -> Path:
    return hub.fetch(hub.look(REPO, revision))


def link(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


# Names that a hub tells, and that could be taken as paths: `{outside}` is the folder of sentinels

PATHS = {
    "absolute, there": "{outside}/victim",
    "absolute, not there": "{outside}/planted",
    "absolute, of a hash": "{outside}/" + "a" * 64,
    "relative": "../../../outside/victim",
    "relative, after a folder": "blobs/../../../../outside/planted",
    "parent": "..",
    "itself": ".",
    "nothing": "",
    "backslashes": r"..\..\..\outside\planted",
    "line feed": "a" * 64 + "\n",
    "null": "a" * 63 + "\0",
}
HASHES = PATHS | {"upper case": "A" * 64, "short": "a" * 63, "no digits": "g" * 64, "long": "a" * 4000}


def twisted(server: HubServer, where: str, told: str) -> None:
    """Let the API tell one name or hash wrongly."""

    def twist(answer):
        files = {file["rfilename"]: file for file in answer.get("siblings", [])}
        match where:
            case "commit":
                answer["sha"] = told
            case "lfs.sha256":
                files["model.safetensors"]["lfs"]["sha256"] = told
            case "blobId":
                files["config.json"]["blobId"] = told
            case "rfilename":
                files["tokenizer.json"]["rfilename"] = told
            case "branch":
                answer["branches"][0]["name"] = told

    server.twist = twist


@pytest.mark.parametrize("form", HASHES)
@pytest.mark.parametrize("where", ["commit", "lfs.sha256", "blobId"])
def test_a_hash_that_is_none_is_refused(server, hub, outside, where, form):
    told = HASHES[form].format(outside=outside)
    twisted(server, where, told)
    what = "no commit hash" if where == "commit" else "which is no hash"
    assert what in refusal(fetch, hub)
    assert not list(hub.cache.rglob("*.safetensors"))


@pytest.mark.parametrize("form", ["absolute, there", "relative", "parent", "nothing", "null", "backslashes"])
@pytest.mark.parametrize("where", ["rfilename", "branch"])
def test_a_name_that_leads_elsewhere_is_refused(server, hub, outside, where, form):
    twisted(server, where, PATHS[form].format(outside=outside))
    call, what = (fetch, "no path") if where == "rfilename" else (Hub.revisions, "no names of branches")
    assert what in refusal(call, hub, *([REPO] if where == "branch" else []))


@pytest.mark.parametrize("size", few([-1, None, "1", 1.5], 2))
def test_a_size_that_is_none_is_refused(server, hub, size):
    server.twist = lambda answer: answer["siblings"][0].update(size=size)
    assert "is it a hub?" in refusal(fetch, hub)


@pytest.mark.parametrize(
    "answer", [[], None, 1, "x", {"sha": 1}, {"sha": "a" * 40, "siblings": {}}, {"sha": "a" * 40, "siblings": [[]]}]
)
def test_an_answer_of_another_form_is_one_line(hub, monkeypatch, answer):
    for call in ("answer_info", "answer_refs"):
        monkeypatch.setattr(f"tests.hub_server._Handler.{call}", lambda handler, *about: handler.send_json(answer))
    assert "is it a hub?" in refusal(fetch, hub)
    assert "is it a hub?" in refusal(hub.revisions, REPO)


@pytest.mark.parametrize("name", ["../../../outside/model.safetensors", "{outside}/model.safetensors", "..", "a/.."])
def test_an_index_cannot_name_files_elsewhere(server, hub, outside, tmp_path, name):
    index = tmp_path / "served/sharded/model.safetensors.index.json"
    kept = index.read_bytes(), index.stat().st_mtime_ns
    index.write_bytes(kept[0].replace(SHARD.encode(), name.format(outside=outside).encode()))
    assert "names no .safetensors files of its folder" in refusal(fetch, hub, "sharded")
    index.write_bytes(kept[0])
    os.utime(index, ns=(kept[1], kept[1]))


@pytest.mark.parametrize("form", few([form for form in PATHS if PATHS[form].isprintable()], 4))
@pytest.mark.parametrize("header", ["ETag", "X-Linked-ETag", "X-Repo-Commit"])
def test_headers_name_no_paths(server, hub, outside, header, form):
    """They are not looked at: names, sizes and hashes are those of the listing."""
    server.headers[header] = PATHS[form].format(outside=outside)
    folder = fetch(hub)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert {path.resolve().parent for path in folder.iterdir()} == {hub.cache / "models--org--model/blobs"}


@pytest.fixture
def dataset(server, tmp_path, monkeypatch) -> Callable[[], Path]:
    """Fetches the file of a dataset's folder from the hub."""
    path = tmp_path / "served/set/data/test.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"rows")
    os.utime(path, (1, 1))
    server.refs["org/set", "main"] = tmp_path / "served/set"
    monkeypatch.setattr(sources, "Hub", partial(Hub, endpoint=server.url))
    return lambda: Path(sources.fetch("org/set", "main", "data/test.parquet", tmp_path / "cache"))


@pytest.mark.parametrize("form", ["absolute, there", "relative", "parent"])
def test_headers_of_a_dataset_s_file_name_no_paths(server, dataset, hub, outside, form):
    server.headers["ETag"] = PATHS[form].format(outside=outside)
    assert dataset().read_bytes() == b"rows"
    assert dataset().is_relative_to(hub.cache / "hub/datasets--org--set")


def test_a_dataset_s_file_that_came_otherwise_than_listed_is_refused(server, dataset, hub):
    server.faults["data/test.parquet"] = Fault(garble=True)
    assert "data/test.parquet came with another SHA-1 than listed" in refusal(dataset)
    assert not [path for path in hub.cache.rglob("*.parquet") if path.is_file()]


def test_a_dataset_s_file_is_used_while_the_hub_is_away(server, dataset, hub, monkeypatch):
    path = dataset()
    server.faults[API] = Fault(status=503)
    monkeypatch.setattr("jtrace.hub.resumable_download.time", SimpleNamespace(sleep=lambda seconds: None))
    assert dataset() == path


# Eviction, and files that came otherwise than listed


@pytest.mark.parametrize(
    ("where", "form"),
    [(where, form) for where, forms in {"commit": HASHES, "blob": HASHES, "file": PATHS}.items() for form in forms],
)
def test_eviction_removes_nothing_by_a_name_that_is_none(hub, outside, where, form):
    folder = fetch(hub)
    wrong = HASHES[form].format(outside=outside)
    about = {"commit": folder.name, "file": "model.safetensors", "blob": "b" * 64} | {where: wrong}
    message = refusal(hub.evict, REPO, about["commit"], [about["file"]], [about["blob"]])
    assert "nothing is written or removed by that name" in message
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("form", ["absolute, there", "relative", "parent", "upper case"])
@pytest.mark.parametrize("where", ["commit", "lfs.sha256"])
def test_a_run_s_note_cannot_be_made_to_evict_elsewhere(server, hub, outside, where, form):
    """The whole way: looked up, noted, fetched, evicted."""
    downloads, ref = Downloads("run", hub), CheckpointRef(REPO, "main", HubSource(REPO, "main"))
    twisted(server, where, HASHES[form].format(outside=outside))

    def sweep():
        listing = hub.look(REPO, "main")
        downloads.note(ref, listing)
        hub.fetch(listing)
        downloads.evict(ref.name)

    refusal(sweep)
    downloads.evict(ref.name)
    assert downloads.noted() == []


@pytest.mark.parametrize("form", ["absolute, there", "relative", "parent"])
@pytest.mark.parametrize("where", ["commit", "blob", "file"])
def test_a_note_that_names_paths_is_none(hub, outside, where, form):
    fetch(hub)
    wrong = HASHES[form].format(outside=outside)
    about = {"commit": "c" * 40, "file": "model.safetensors", "blob": "b" * 64} | {where: wrong}
    downloads = Downloads("run", hub)
    downloads.folder.mkdir(parents=True)
    note = f'{{"repo": "{REPO}", "commit": "{about["commit"]}", "files": {{"{about["file"]}": "{about["blob"]}"}}}}'
    (downloads.folder / "name.json").write_text(note)
    downloads.evict("name")


# Links in the cache, as other tools or people make them


@pytest.mark.parametrize("target", few(["model.safetensors", "same size", "not there"], 2))
def test_a_snapshot_s_link_to_other_weights_is_replaced_and_its_target_stays(tmp_path, server, hub, outside, target):
    elsewhere = tmp_path / "cache/shared"
    elsewhere.mkdir(parents=True)
    shutil.copy(outside / "model.safetensors", elsewhere)
    (elsewhere / "same size").write_bytes(WEIGHTS[::-1])
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    listing = hub.look(REPO, "main")
    entry = link(hub.cache / "models--org--model/snapshots" / listing.commit / "model.safetensors", elsewhere / target)
    hub.fetch(listing)
    assert entry.read_bytes() == WEIGHTS
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


def test_a_snapshot_s_link_to_the_same_weights_is_used(tmp_path, server, hub):
    listing = hub.look(REPO, "main")
    place = hub.cache / "models--org--model/snapshots" / listing.commit / "model.safetensors"
    entry = link(place, tmp_path / "served/main/model.safetensors")
    hub.fetch(listing)
    assert os.readlink(entry) == str(tmp_path / "served/main/model.safetensors")
    assert "model.safetensors" not in server.downloads


@pytest.mark.parametrize("suffix", ["", ".incomplete"])
def test_a_blob_that_is_a_link_is_replaced_and_its_target_stays(hub, outside, suffix):
    listing = hub.look(REPO, "main")
    blob = hub.cache / "models--org--model/blobs" / listing.weights[0].blob
    link(blob.with_name(blob.name + suffix), outside / "model.safetensors")
    assert (hub.fetch(listing) / "model.safetensors").read_bytes() == WEIGHTS
    assert not blob.is_symlink()
    hub.evict(REPO, listing.commit, ["model.safetensors"], [blob.name])
    assert not blob.exists()


@pytest.mark.parametrize("name", ["blobs", "snapshots", "snapshots/{commit}"])
def test_nothing_is_written_or_removed_behind_a_folder_that_is_a_link(hub, outside, name):
    listing = hub.look(REPO, "main")
    link(hub.cache / "models--org--model" / name.format(commit=listing.commit), outside)
    assert "a link leads out of" in refusal(hub.fetch, listing)
    assert "a link leads out of" in refusal(hub.evict, REPO, listing.commit, ["model.safetensors"], ["a" * 64])


def test_a_revision_is_not_noted_behind_a_link(hub, outside):
    link(hub.cache / "models--org--model/refs", outside)
    assert (fetch(hub) / "model.safetensors").read_bytes() == WEIGHTS


# More than was listed


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_body_without_end_is_cut_off_at_the_listed_size(server, hub, name):
    server.faults[name] = Fault(endless=True)
    assert f"{name} came as more than the " in refusal(fetch, hub)
    assert server.sent < 32 << 20  # what lies in the sockets' buffers counts as sent
    assert not [path for path in hub.cache.rglob(f"*{name}*") if path.is_file()]
    assert not list(hub.cache.rglob("*.incomplete"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_compressed_body_is_not_unpacked(server, hub, name, monkeypatch):
    sizes = []
    monkeypatch.setattr(cache, "size_of", lambda path: sizes.append(SIZE_OF(path) or 0) or SIZE_OF(path))
    server.faults[name] = Fault(unpacks_to=32 << 20)
    assert f"{name} came " in refusal(fetch, hub)
    assert max(sizes) <= len(WEIGHTS) + 1
    assert not list(hub.cache.rglob("*.incomplete"))


def test_bytes_are_asked_for_as_they_are(server, hub):
    fetch(hub)
    assert {request.encoding for request in server.requests if request.method == "GET"} == {"identity"}


@pytest.mark.parametrize("name", few(["config.json", "tokenizer.json", "model.safetensors.index.json"]))
def test_small_files_have_a_largest_size(server, hub, name):
    def twist(answer):
        for file in answer["siblings"]:
            if file["rfilename"] == name:
                file["size"] = (64 << 20) + 1

    server.twist = twist
    assert f"{name} has 67.1 MB, more than the 67.1 MB that such a file may have" in refusal(fetch, hub, "sharded")
    assert server.downloads == []


def test_an_answer_without_end_is_cut_off(server, hub, monkeypatch):
    monkeypatch.setattr("jtrace.hub.client.LARGEST_ANSWER", 1 << 20)
    monkeypatch.setattr(
        "tests.hub_server._Handler.answer_info", lambda handler, *about: handler.send_endlessly(b"[", {})
    )
    assert "does not answer like a hub (its answer is longer than 1.0 MB)" in refusal(fetch, hub)
    assert server.sent < 32 << 20


def test_an_answer_nested_without_end_is_one_line(hub, monkeypatch):
    def nested(handler, *about):
        content = b"[" * 1_000_000
        handler.send_head(200, len(content), {})
        handler.wfile.write(content)

    monkeypatch.setattr("tests.hub_server._Handler.answer_info", nested)
    assert "does not answer like a hub" in refusal(fetch, hub)


# What lies in the cache already


@pytest.mark.parametrize("name", few(["config.json", "tokenizer.json", "model.safetensors"], 2))
def test_a_flipped_bit_is_found_and_the_file_fetched_again(server, hub, name):
    path = fetch(hub) / name
    flip(path)
    server.requests.clear()
    assert fetch(hub) == path.parent
    assert server.downloads == [name]
    assert path.read_bytes() == {"config.json": b"{}", "tokenizer.json": b'"tokeniser"'}.get(name, WEIGHTS)


def test_without_the_hub_a_flipped_bit_is_not_used(server, hub):
    flip(fetch(hub) / "model.safetensors")
    server.faults |= {name: Fault(status=503) for name in (API, "model.safetensors")}
    assert "cannot be reached" in refusal(fetch, hub)


def test_without_the_hub_a_file_that_is_no_blob_is_not_used(server, hub):
    """Nothing tells what its content should be."""
    path = fetch(hub) / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    server.faults[API] = Fault(status=503)
    assert "cannot be reached" in refusal(hub.look, REPO, "main")
    del server.faults[API]
    assert fetch(hub) == path.parent
    assert not path.is_symlink()


def test_a_blob_is_read_through_once_for_each_state_of_its_file(hub, monkeypatch):
    folder = fetch(hub)
    read, matches = [], cache._matches
    monkeypatch.setattr(cache, "_matches", lambda path, blob: read.append(path.name) or matches(path, blob))
    fetch(hub)
    assert read == []
    os.utime(folder / "model.safetensors", ns=(1, 1))
    fetch(hub)
    fetch(hub)
    assert read == ["model.safetensors"]


def flip(path: Path) -> None:
    """Change one bit; size and name stay."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
