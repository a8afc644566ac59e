"""The run directory: a record, a table and files of arrays per checkpoint, what they come to, and what failed.

Every file is written aside and renamed into place, and a checkpoint's table comes last: a table that is there is whole,
and so is all that belongs to it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jtrace.checkpoints.audit import WeightFingerprint, audit
from jtrace.checkpoints.content import Content
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError, WriteError
from jtrace.probing.raw_probes import KeptProbes
from jtrace.probing.records import HeldOut, Metric, Projection
from jtrace.probing.vectors import KINDS, MASS_MEAN
from jtrace.runs.arrays import holds_arrays, read_arrays, write_arrays
from jtrace.runs.dynamics_files import read_dynamics, write_dynamics
from jtrace.runs.failures import Failures, Notes
from jtrace.runs.metrics_files import (
    Origin,
    is_damaged,
    made_from,
    read_fingerprints,
    read_metrics,
    read_warnings,
    write_metrics,
)
from jtrace.runs.probe_files import read_probes, write_probes
from jtrace.runs.projection_files import read_projections, write_projections
from jtrace.runs.record_files import read_run_record
from jtrace.runs.score_files import read_scores, write_scores
from jtrace.runs.steering_files import read_steering
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.locks import LOCKS, Claims, in_use
from jtrace.runtime.small_files import read_text

RECORD = "run.json"


@dataclass(frozen=True)
class RunDirectory:
    """A run directory that exists and belongs to this configuration; see `jtrace.runs.open_run.open_run`."""

    path: Path

    def table_path(self, ref: CheckpointRef) -> Path:
        return self.path / "metrics" / f"{ref.name}.parquet"

    def vectors_path(self, ref: CheckpointRef, kind: str = MASS_MEAN) -> Path:
        return self.path / "vectors" / ("" if kind == MASS_MEAN else kind) / f"{ref.name}.safetensors"

    def projections_path(self, name: str) -> Path:
        return self.path / "projections" / f"{name}.parquet"

    def scores_path(self, name: str) -> Path:
        return self.path / "scores" / f"{name}.parquet"

    def probes_path(self, name: str) -> Path:
        return self.path / "probes" / f"{name}.safetensors"

    def activations_path(self, name: str, dataset: str) -> Path:
        return self.path / "activations" / name / f"{dataset}.safetensors"

    def stamp_path(self, ref: CheckpointRef) -> Path:
        """`Content.key` and `stamp` of what was traced: not in the table, which is the same wherever it is made."""
        return self.path / ".stamps" / ref.name

    def baseline_path(self, digest: str) -> Path:
        return self.path / "baselines" / f"{digest}.safetensors"

    @property
    def identity(self) -> str:
        """Identity of the run, wherever it is moved."""
        identity = self.record().get("id")
        if identity is None:
            raise InputError(f"{self.path / RECORD}: has no id; trace into this run once more")
        return str(identity)

    @property
    def log_path(self) -> Path:
        return self.path / "log.jsonl"

    def claims(self) -> Claims:
        """Claims of processes on checkpoints."""
        return Claims(self.path / LOCKS)

    def in_use(self) -> AbstractContextManager[None]:
        """Keep other commands from giving the run another configuration meanwhile."""
        return in_use(self.lock("run"))

    def lock(self, name: str) -> Path:
        """A file to lock; names of checkpoints do not begin with a dot."""
        return self.path / LOCKS / f".{name}"

    def tables(self) -> list[Path]:
        """The tables of all checkpoints traced so far."""
        return sorted((self.path / "metrics").glob("*.parquet"))

    def origin(self, ref: CheckpointRef) -> Origin | None:
        """Origin of the checkpoint's table; None where there is no table, or none that can be read."""
        origin = made_from(self.table_path(ref))
        if origin is None or origin.content is None:
            return origin
        try:
            key, _, stamp = read_text(self.stamp_path(ref)).partition(" ")
        except InputError:  # it spares reading, and no more
            return origin
        # A stamp may be there before the table that it belongs to.
        return replace(origin, content=replace(origin.content, stamp=stamp)) if key == origin.content.key else origin

    def is_done(
        self,
        ref: CheckpointRef,
        activations: Sequence[str] = (),
        kinds: Sequence[str] = (MASS_MEAN,),
        probes: bool = False,
    ) -> bool:
        """Tell whether the table, projections, vectors of these kinds and named activations are there and whole.

        Args:
            probes: whether they belong to it as well.
        """
        arrays = [self.vectors_path(ref, kind) for kind in kinds]
        arrays += [self.activations_path(ref.name, dataset) for dataset in activations]
        arrays += [self.probes_path(ref.name)] if probes else []
        has_table = self.origin(ref) is not None and self.projections_path(ref.name).is_file()
        return has_table and all(map(holds_arrays, arrays))

    def is_damaged(self, ref: CheckpointRef) -> bool:
        """Tell whether there is a table that cannot be read."""
        return is_damaged(self.table_path(ref))

    def check_there(self) -> None:
        """Refuse to write into a directory that has vanished since the run began.

        Raises:
            WriteError: it has no run.json any more.
        """
        if not (self.path / RECORD).is_file():
            raise WriteError(f"{self.path}: the run directory has vanished (no {RECORD}); bring its disk back")

    def write_activations(self, ref: CheckpointRef, dataset: str, activations: np.ndarray) -> None:
        """Write `activations` [layer, statement, width], in the forward's dtype."""
        self.check_there()
        write_arrays(self.activations_path(ref.name, dataset), {"activations": activations})

    def read_activations(self, name: str, dataset: str) -> np.ndarray | None:
        """Kept activations [layer, statement, width] of a checkpoint, in the forward's dtype; None where none are kept.

        Raises:
            InputError: the file is damaged.
        """
        path = self.activations_path(name, dataset)
        if not path.is_file():
            return None
        arrays = read_arrays(path)
        if arrays is None or "activations" not in arrays or arrays["activations"].ndim != 3:
            raise InputError(f"{path}: damaged; delete it and trace its checkpoint again")
        return arrays["activations"]

    def write_vectors(
        self, ref: CheckpointRef, vectors: Mapping[str, np.ndarray], how: Mapping[str, Any], kind: str = MASS_MEAN
    ) -> None:
        """Write `vectors` [layer, width] per set, and how they were made (JSON values); all kinds before the table."""
        self.check_there()
        write_arrays(self.vectors_path(ref, kind), vectors, how)

    def drop_vectors(self, ref: CheckpointRef, kinds: Collection[str]) -> None:
        """Remove vectors of these kinds: they are of weights that the checkpoint does not hold any more."""
        for kind in kinds:
            self.vectors_path(ref, kind).unlink(missing_ok=True)

    def write_probes(self, ref: CheckpointRef, probes: Mapping[str, KeptProbes], how: Mapping[str, Any]) -> None:
        """Write probes of each set, and how they were made (JSON values, `layers` among them); before the table."""
        self.check_there()
        write_probes(self.probes_path(ref.name), probes, how)

    def read_probes(
        self, name: str, sets: Collection[str] | None = None
    ) -> tuple[dict[str, KeptProbes], dict[str, Any]] | None:
        """Probes of a checkpoint and how they were made; see `jtrace.runs.probe_files.read_probes`."""
        return read_probes(self.probes_path(name), sets)

    def write_baseline(self, digest: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write what all checkpoints of an architecture are held against; `digest` tells of all that decides it."""
        self.check_there()
        write_arrays(self.baseline_path(digest), arrays)

    def read_baseline(self, digest: str) -> dict[str, np.ndarray] | None:
        """The arrays; None where there are none that can be read: they are computed anew then."""
        return read_arrays(self.baseline_path(digest))

    def write_dynamics(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Tables of what all checkpoints come to together, by name; an empty one takes an earlier one's place."""
        self.check_there()
        write_dynamics(self.path / "dynamics", tables)

    def read_dynamics(self, name: str) -> pd.DataFrame | None:
        """One of these tables; None where there is none, as it would be empty or the run did not get there."""
        return read_dynamics(self.path / "dynamics", name)

    def write_checkpoint(
        self,
        ref: CheckpointRef,
        vectors: Mapping[str, np.ndarray],
        how: Mapping[str, Any],
        metrics: Sequence[Metric],
        fingerprint: WeightFingerprint,
        projections: Sequence[Projection],
        content: Content | None = None,
        warnings: Sequence[str] = (),
        held_out: Sequence[HeldOut] = (),
    ) -> None:
        """Write published vectors [layer, width] per set, projections, scores, then the table, which says all is done.

        Args:
            warnings: what a reader of its numbers should know; they stay with the table.
            held_out: scores of each set's statements, by each protocol.
        """
        # What is written again, for another kind of vector as a rule, replaces the same numbers.
        again = self.table_path(ref).is_file()
        try:
            self.write_vectors(ref, vectors, how)
            write_projections(self.projections_path(ref.name), projections)
            write_scores(self.scores_path(ref.name), held_out)
            if content is not None:
                with atomic_write(self.stamp_path(ref)) as aside:
                    aside.write_text(f"{content.key} {content.stamp}")
            write_metrics(self.table_path(ref), ref, metrics, fingerprint, content, warnings)
        except WriteError:
            if not again:
                written = [path(ref.name) for path in (self.projections_path, self.probes_path, self.scores_path)]
                with suppress(OSError):  # a vanished disk
                    for path in (*written, *(self.vectors_path(ref, kind) for kind in KINDS)):
                        path.unlink(missing_ok=True)
            raise

    def read_metrics(self) -> pd.DataFrame:
        """Every checkpoint's table as one; empty, with the right columns, if there is none."""
        return read_metrics(self.tables())

    def read_projections(self, name: str) -> pd.DataFrame | None:
        """Points of a checkpoint's statements, see `jtrace.runs.projection_files`; None where there are none."""
        return read_projections(self.projections_path(name))

    def read_scores(self, name: str) -> pd.DataFrame | None:
        """Held-out scores of a checkpoint's statements; None where there are none, as in an earlier release's run."""
        return read_scores(self.scores_path(name))

    def read_steering(self) -> pd.DataFrame:
        """Every steering table as one, columns `jtrace.runs.steering_files.SCHEMA`; empty if there is none.

        Of tables of the same vector and task, made with other settings, the latest counts.
        """
        return read_steering(self.path / "steering")

    def record(self) -> dict[str, Any]:
        """The record in run.json: `config`, `data`, `checkpoints`, `commands`, and `sets` where it is known.

        Raises:
            InputError: there is no such folder, or it is no run.
        """
        record = read_run_record(self.path / RECORD)
        if record is None:
            raise InputError(f"{self.path}: no run directory (it holds no readable run.json); name one that was traced")
        return record

    def audit(self) -> list[str]:
        """Warnings on the weights of the checkpoints traced so far: equal ones, and ones out of place."""
        return audit(read_fingerprints(self.tables()))

    def warnings(self) -> list[str]:
        """Warnings on checkpoints from when they were traced, each once, with the checkpoints that it is of."""
        checkpoints: dict[str, list[str]] = {}
        for path in self.tables():
            for warning in read_warnings(path):
                checkpoints.setdefault(warning, []).append(path.stem)
        return [f"{_names(names)}: {warning}" for warning, names in checkpoints.items()]

    def failures(self) -> Notes:
        """Checkpoints that could not be traced, by name."""
        return self._failures.read()

    def record_failure(self, ref: CheckpointRef, reason: str, traceback: str = "") -> None:
        """Note why a checkpoint could not be traced, in place of an earlier note on it."""
        self.check_there()
        self._failures.record(ref, reason, traceback)

    def clear_failures(self, refs: Iterable[CheckpointRef]) -> None:
        """Remove the notes on checkpoints that have been traced after all."""
        self._failures.clear({ref.name for ref in refs})

    @property
    def _failures(self) -> Failures:
        return Failures(self.path / "failures.jsonl", self.lock("failures"))


def _names(checkpoints: Sequence[str]) -> str:
    shown = ", ".join(checkpoints[:3])
    return shown if len(checkpoints) <= 3 else f"{shown} and {len(checkpoints) - 3} more"
