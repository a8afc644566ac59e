"""Checkpoints of a run that could not be traced, each with the reason: a line of JSON."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.locks import alone
from jtrace.runtime.small_files import MissingFileError, parse_json, read_text

NEEDED = ("checkpoint", "error", "time")
ABSENT = {"error": "", "time": ""}  # what an absent one means
DELETE = "delete it, it is written anew"
Notes = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Failures:
    """The file of failures.

    Attributes:
        path: of the file, which need not exist.
        lock: a file that one process at a time locks to write.
    """

    path: Path
    lock: Path

    def read(self) -> Notes:
        """The notes, by name of the checkpoint.

        Raises:
            InputError: the file is damaged.
        """
        try:
            lines = read_text(self.path, remedy=DELETE).splitlines()
            records = list(map(parse_json, lines))
        except MissingFileError:
            return {}
        except ValueError:
            raise InputError(f"{self.path}: not readable; {DELETE}") from None
        for record in records:
            if not isinstance(record, dict) or not all(isinstance((ABSENT | record).get(key), str) for key in NEEDED):
                raise InputError(f"{self.path}: a line lacks {', '.join(NEEDED)}; {DELETE}")
        return {record["checkpoint"]: ABSENT | record for record in records}

    def record(self, ref: CheckpointRef, reason: str, traceback: str = "") -> None:
        """Note why a checkpoint could not be traced, in place of an earlier note on it.

        Args:
            reason: one line.
            traceback: of a fault that is not foreseen.
        """
        record = {
            "checkpoint": ref.name,
            "model": ref.model,
            "revision": ref.revision,
            "source": str(ref.source),
            "error": reason,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        } | ({"traceback": traceback} if traceback else {})
        with alone(self.lock):
            self._write(self.read() | {ref.name: record})

    def clear(self, names: Collection[str]) -> None:
        """Remove the notes on checkpoints that have been traced after all."""
        if not set(names) & self.read().keys():
            return
        with alone(self.lock):
            self._write({name: note for name, note in self.read().items() if name not in names})

    def _write(self, notes: Notes) -> None:
        with atomic_write(self.path) as aside:
            aside.write_text("".join(json.dumps(record) + "\n" for record in notes.values()), encoding="utf-8")
