"""Which files of the hub's cache a run has brought there, so that they, and only they, go again once they are used."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jtrace.checkpoints.hub import Hub
from jtrace.checkpoints.listing import Listing
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.whole import written_whole


@dataclass(frozen=True)
class Downloads:
    """The weight files that a run downloads, each checkpoint's noted in a file before the first byte moves.

    A run that was killed therefore knows its own files from those that other tools have put into the cache, which stay.

    Attributes:
        folder: of the notes; made when there is something to note.
        keep: whether nothing is ever removed.
    """

    folder: Path
    hub: Hub
    keep: bool = False

    def note(self, ref: CheckpointRef, listing: Listing) -> int:
        """Note which weight files are this run's to bring; where all are kept, none is noted.

        Returns:
            How many bytes of the cache they take once they are there.

        Raises:
            WriteError: the note cannot be written.
        """
        earlier = self._read(ref.name)
        if earlier and earlier["commit"] != listing.commit:  # the branch has moved
            self.evict(ref.name)
        known = {blob for name in self.noted() for blob in self._read(name).get("files", {}).values()}
        ours = [file for file in listing.weights if file.blob in known or not self.hub.holds(listing, file)]
        record = {
            "repo": listing.repo,
            "commit": listing.commit,
            "files": {file.name: file.blob for file in ours},
        }
        if self.keep:
            self._path(ref.name).unlink(missing_ok=True)
        elif ours and record != earlier:
            self.folder.mkdir(exist_ok=True)
            with written_whole(self._path(ref.name)) as aside:
                aside.write_text(json.dumps(record), encoding="utf-8")
        return sum(file.size for file in ours)

    def noted(self) -> list[str]:
        """Names of the checkpoints that have files here."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def evict(self, name: str) -> None:
        """Remove a checkpoint's files that were noted."""
        if record := self._read(name):
            self.hub.evict(record["repo"], record["commit"], record["files"])
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
