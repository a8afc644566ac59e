"""Which files of the cache are the run's own: those, and only those, go again."""

import json

import pytest

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.hub.client import Hub
from jtrace.sweep.eviction import Downloads

pytestmark = pytest.mark.usefixtures("hub_client")
REPO = "org/tiny"


@pytest.fixture
def hub(steps, server):
    return Hub(steps / "cache", server.url, waits=())


@pytest.fixture
def downloads(hub):
    return Downloads("run", hub)


def ref(step):
    return CheckpointRef(REPO, step, HubSource(REPO, step))


def weights(steps):
    """Weight files, blobs and unfinished blobs of the cache."""
    blobs = steps / "cache/models--org--tiny/blobs"
    return sorted(path.name for path in blobs.iterdir() if len(path.name.split(".")[0]) == 64)


def test_what_the_run_brought_goes_and_the_small_files_stay(steps, hub, downloads):
    listing = hub.look(REPO, "step2")
    size = downloads.note(ref("step2"), listing)
    assert size == sum(file.size for file in listing.weights)
    folder = hub.fetch(listing)
    assert len(weights(steps)) == 1
    downloads.evict("org--tiny@step2")
    assert weights(steps) == []
    assert (folder / "config.json").is_file()
    assert downloads.noted() == []
    hub.fetch(listing)  # comes again
    assert len(weights(steps)) == 1


def test_what_was_in_the_cache_before_stays(steps, hub, downloads):
    listing = hub.look(REPO, "step2")
    hub.fetch(listing)
    assert downloads.note(ref("step2"), listing) == 0
    downloads.evict("org--tiny@step2")
    assert len(weights(steps)) == 1


def test_a_later_process_knows_what_a_killed_one_has_brought(steps, hub, downloads):
    listing = hub.look(REPO, "step2")
    downloads.note(ref("step2"), listing)
    hub.fetch(listing)
    later = Downloads(downloads.run, hub)
    assert later.noted() == ["org--tiny@step2"]
    assert later.note(ref("step2"), listing) > 0
    later.evict("org--tiny@step2")
    assert weights(steps) == []


def test_what_an_interrupted_download_has_left_goes_as_well(steps, hub, downloads):
    listing = hub.look(REPO, "step2")
    downloads.note(ref("step2"), listing)
    blobs = steps / "cache/models--org--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{listing.weights[0].blob}.incomplete").write_bytes(b"x")
    downloads.evict("org--tiny@step2")
    assert weights(steps) == []


def test_a_blob_that_two_revisions_share_goes_with_the_last_of_them(steps, server, hub, downloads):
    server.refs[REPO, "step10"] = server.refs[REPO, "step100"]
    listings = {step: hub.look(REPO, step) for step in ("step10", "step100")}
    # Another commit with the same weights.
    (steps / "tiny/step2/model.safetensors").write_bytes((steps / "tiny/step100/model.safetensors").read_bytes())
    listings["step2"] = hub.look(REPO, "step2")
    for step in ("step2", "step100"):
        assert downloads.note(ref(step), listings[step]) > 0
        hub.fetch(listings[step])
    assert len(weights(steps)) == 1
    downloads.evict("org--tiny@step2")
    assert len(weights(steps)) == 1
    assert (hub.fetch(listings["step100"]) / "model.safetensors").is_file()
    downloads.evict("org--tiny@step100")
    assert weights(steps) == []


def test_a_branch_that_moved_takes_its_old_files_along(steps, server, hub, downloads):
    old = hub.look(REPO, "step2")
    downloads.note(ref("step2"), old)
    hub.fetch(old)
    server.refs[REPO, "step2"] = server.refs[REPO, "step10"]
    new = hub.look(REPO, "step2")
    assert new.commit != old.commit
    downloads.note(ref("step2"), new)
    assert weights(steps) == []
    assert json.loads((downloads.folder / "org--tiny@step2.json").read_text())["commit"] == new.commit


def test_nothing_goes_where_all_is_kept(steps, hub, downloads):
    listing = hub.look(REPO, "step2")
    downloads.note(ref("step2"), listing)
    keeping = Downloads(downloads.run, hub, keep=True)
    assert keeping.note(ref("step2"), listing) > 0
    assert keeping.noted() == []
    hub.fetch(listing)
    downloads.evict("org--tiny@step2")
    assert len(weights(steps)) == 1


def test_two_names_of_one_commit_do_not_take_each_other_s_files(steps, server, hub, downloads):
    server.refs[REPO, "main"] = server.refs[REPO, "step2"]
    for revision in ("step2", "main"):
        listing = hub.look(REPO, revision)
        assert downloads.note(ref(revision), listing) > 0
        folder = hub.fetch(listing)
    downloads.evict("org--tiny@step2")
    assert (folder / "model.safetensors").is_file()
    downloads.evict("org--tiny@main")
    assert weights(steps) == []


def test_two_runs_that_share_a_cache_do_not_take_each_other_s_files(steps, hub, downloads):
    other, listing = Downloads("other", hub), hub.look(REPO, "step2")
    downloads.note(ref("step2"), listing)
    folder = hub.fetch(listing)
    assert other.note(ref("step2"), listing) > 0
    downloads.evict("org--tiny@step2")
    assert (folder / "model.safetensors").is_file()
    other.evict("org--tiny@step2")
    assert weights(steps) == []


def test_another_cache_s_files_are_not_the_run_s(steps, server, hub, downloads):
    """A killed run, taken up with another cache that somebody has filled."""
    listing = hub.look(REPO, "step2")
    downloads.note(ref("step2"), listing)
    full = Hub(steps / "full", server.url, waits=())
    full.fetch(listing)
    elsewhere = Downloads(downloads.run, full)
    assert elsewhere.note(ref("step2"), listing) == 0
    elsewhere.evict("org--tiny@step2")
    assert (full.fetch(listing) / "model.safetensors").is_file()


def test_a_blob_that_a_folder_of_a_snapshot_uses_stays(steps, hub, downloads):
    listing = hub.look(REPO, "step2")
    downloads.note(ref("step2"), listing)
    folder = hub.fetch(listing)
    (folder / "variant").mkdir()
    (folder / "variant/model.safetensors").symlink_to((folder / "model.safetensors").resolve())
    downloads.evict("org--tiny@step2")
    assert (folder / "variant/model.safetensors").is_file()


def test_a_damaged_note_is_none(downloads, hub):
    downloads.folder.mkdir(parents=True)
    (downloads.folder / "org--tiny@step2.json").write_text("{")
    assert downloads.note(ref("step2"), hub.look(REPO, "step2")) > 0


def test_a_cache_that_cannot_be_read_holds_nothing(downloads, monkeypatch):
    """As another user's home, which a sweep of local folders alone has no need of."""

    def refused(path, pattern):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.glob", refused)
    assert downloads.noted() == []
