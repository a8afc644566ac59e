"""Notes of the files that a run brings to the hub's cache, so that they, and only they, go again once they are used."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError
from jtrace.hub.client import Hub
from jtrace.hub.files import BLOB, COMMIT, Listing, is_inner_path
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.small_files import read_json


@dataclass(frozen=True)
class Downloads:
    """The weight files that a run downloads, each checkpoint's noted in the cache before the first byte moves.

    A run that was killed therefore knows its own files from those that other tools have put into the cache, which
    stay; and runs that share a cache know each other's.

    Attributes:
        run: its identity (`RunDirectory.identity`).
        keep: whether nothing is ever removed.
    """

    run: str
    hub: Hub
    keep: bool = False

    @property
    def folder(self) -> Path:
        """Folder of this run's notes, where huggingface_hub looks for no models."""
        return self._notes / self.run

    def note(self, ref: CheckpointRef, listing: Listing) -> int:
        """Note which weight files are this run's to bring; where all are kept, none is noted.

        Returns:
            Bytes of the cache that they take in the end.

        Raises:
            WriteError: the note cannot be written.
        """
        earlier = _read(self._path(ref.name))
        if earlier and earlier["commit"] != listing.commit:  # the branch has moved
            self.evict(ref.name)
        brought = {blob for note in self._notes.glob("*/*.json") for blob in _read(note).get("files", {}).values()}
        ours = [file for file in listing.weights if file.blob in brought or not self.hub.holds(listing, file)]
        files = {file.name: file.blob for file in ours}
        record = {"repo": listing.repo, "commit": listing.commit, "files": files}
        if self.keep:
            self._path(ref.name).unlink(missing_ok=True)
        elif ours and record != earlier:
            with atomic_write(self._path(ref.name)) as aside:
                aside.write_text(json.dumps(record), encoding="utf-8")
        return sum(file.size for file in ours)

    def noted(self) -> list[str]:
        """Names of the checkpoints that have files here; none where the cache cannot be read, as in a container."""
        try:
            return sorted(path.stem for path in self.folder.glob("*.json"))
        except OSError:
            return []

    def evict(self, name: str) -> None:
        """Remove a checkpoint's files that were noted, save those that another note lists; none where all are kept."""
        record = _read(self._path(name))
        if not record or self.keep:
            return
        others = list(self._others(name))
        same = [note for note in others if (note["repo"], note["commit"]) == (record["repo"], record["commit"])]
        files = record["files"].keys() - {name for note in same for name in note["files"]}
        blobs = set(record["files"].values()) - {b for note in others for b in note["files"].values()}
        self.hub.evict(record["repo"], record["commit"], files, blobs)
        self._path(name).unlink(missing_ok=True)

    @property
    def _notes(self) -> Path:
        return self.hub.cache / ".locks" / "jtrace"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _others(self, name: str) -> Iterator[dict[str, Any]]:
        """The notes of all runs on all other checkpoints."""
        for path in self._notes.glob("*/*.json"):
            if path != self._path(name) and (note := _read(path)):
                yield note


def _read(path: Path) -> dict[str, Any]:
    """A note; empty if it is damaged or names what no hub has."""
    try:
        note = read_json(path)
    except InputError:
        return {}
    match note:
        case {"repo": str(), "commit": str(commit), "files": dict(files)} if COMMIT.fullmatch(commit) and all(
            is_inner_path(name) and isinstance(blob, str) and BLOB.fullmatch(blob) for name, blob in files.items()
        ):
            return note
    return {}
