"""Which checkpoints of a run could not be traced, and why: a line of JSON each."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.locks import alone

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
            lines = self.path.read_text(encoding="utf-8").splitlines()
            return {record["checkpoint"]: record for record in map(json.loads, lines)}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{self.path}: not readable; delete it, it is written anew") from None

    def record(self, ref: CheckpointRef, reason: str) -> None:
        """Note why a checkpoint could not be traced, in place of an earlier note on it."""
        record = {
            "checkpoint": ref.name,
            "model": ref.model,
            "revision": ref.revision,
            "source": str(ref.source),
            "error": reason,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        with alone(self.lock):
            self._write(self.read() | {ref.name: record})

    def clear(self, names: Collection[str]) -> None:
        """These checkpoints have been traced after all."""
        if not set(names) & self.read().keys():
            return
        with alone(self.lock):
            self._write({name: note for name, note in self.read().items() if name not in names})

    def _write(self, notes: Notes) -> None:
        with atomic_write(self.path) as aside:
            aside.write_text("".join(json.dumps(record) + "\n" for record in notes.values()), encoding="utf-8")
