"""The run directory: what was run, a table and files of arrays per checkpoint, what they come to, and what failed.

Every file is written aside and renamed into place, and a checkpoint's table comes last: a table that is there is whole,
and so is all that belongs to it.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.checkpoints.audit import AuditedCheckpoint, WeightFingerprint, audit
from jtrace.checkpoints.content import Content
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError, WriteError
from jtrace.probing.raw_probes import KeptProbes
from jtrace.probing.records import Metric, Projection
from jtrace.probing.vectors import KINDS, MASS_MEAN
from jtrace.runs.arrays import holds_arrays, read_arrays, write_arrays
from jtrace.runs.dynamics_files import read_dynamics, write_dynamics
from jtrace.runs.failures import Failures, Notes
from jtrace.runs.probe_files import read_probes, write_probes
from jtrace.runs.projection_files import read_projections, write_projections
from jtrace.runs.steering_files import SCHEMA as STEERING_SCHEMA
from jtrace.runs.steering_files import TIME_KEY, latest
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.locks import Claims, in_use

SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("revision", pa.string()),
        ("step", pa.int64()),
        ("tokens", pa.int64()),
        ("dataset", pa.string()),
        ("dimension", pa.string()),
        ("layer", pa.int32()),
        ("protocol", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("n", pa.int64()),
        ("seed", pa.int64()),
    ]
)
STEERING_COLUMNS = tuple(STEERING_SCHEMA.names)
SOURCE_KEY = b"jtrace.source"
FINGERPRINT_KEY = b"jtrace.fingerprint"
CONTENT_KEY = b"jtrace.content"
WARNINGS_KEY = b"jtrace.warnings"
RECORD, LOCKS = "run.json", ".locks"


@dataclass(frozen=True)
class Origin:
    """What a table was made from: the source's name, and its content, which tables of earlier releases do not tell."""

    source: str
    content: Content | None

    @property
    def key(self) -> str:
        """What the answers of the checkpoint are kept by."""
        return self.content.key if self.content else self.source


@dataclass(frozen=True)
class RunDirectory:
    """A run directory that exists and belongs to this configuration; see `jtrace.runs.record.open_run`."""

    path: Path

    def table_path(self, ref: CheckpointRef) -> Path:
        return self.path / "metrics" / f"{ref.name}.parquet"

    def vectors_path(self, ref: CheckpointRef, kind: str = MASS_MEAN) -> Path:
        return self.path / "vectors" / ("" if kind == MASS_MEAN else kind) / f"{ref.name}.safetensors"

    def projections_path(self, name: str) -> Path:
        return self.path / "projections" / f"{name}.parquet"

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
        """What tells the run from others, wherever it is moved."""
        return str(self.record()["id"])

    @property
    def log_path(self) -> Path:
        return self.path / "log.jsonl"

    def claims(self) -> Claims:
        """Which process traces which checkpoint."""
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
        """What the checkpoint's table was made from; None where there is no table, or none that can be read."""
        try:
            about = _read_table(self.table_path(ref)).schema.metadata or {}
        except (OSError, pa.ArrowException):
            return None
        source, content = about.get(SOURCE_KEY, b"").decode(), about.get(CONTENT_KEY)
        if content is None:
            return Origin(source, None)
        found, path = Content.from_json(content.decode()), self.stamp_path(ref)
        key, _, stamp = path.read_text().partition(" ") if path.is_file() else ("", "", "")
        # A stamp may be there before the table that it belongs to.
        return Origin(source, replace(found, stamp=stamp) if key == found.key else found)

    def is_done(
        self,
        ref: CheckpointRef,
        activations: Sequence[str] = (),
        kinds: Sequence[str] = (MASS_MEAN,),
        probes: bool = False,
    ) -> bool:
        """Whether the table is there and whole, and with it projections, vectors of these kinds, named activations.

        Args:
            probes: whether they belong to it as well.
        """
        arrays = [self.vectors_path(ref, kind) for kind in kinds]
        arrays += [self.activations_path(ref.name, dataset) for dataset in activations]
        arrays += [self.probes_path(ref.name)] if probes else []
        there = self.origin(ref) is not None and self.projections_path(ref.name).is_file()
        return there and all(map(holds_arrays, arrays))

    def is_damaged(self, ref: CheckpointRef) -> bool:
        """Whether there is a table that cannot be read."""
        try:
            _read_table(self.table_path(ref))
        except FileNotFoundError:
            return False
        except (OSError, pa.ArrowException):
            return True
        return False

    def check_there(self) -> None:
        """Refuse to write into a directory that has vanished since the run began.

        Raises:
            WriteError: it has no run.json any more.
        """
        if not (self.path / RECORD).is_file():
            raise WriteError(f"{self.path}: the run directory has vanished (no {RECORD}); bring its disk back")

    def write_activations(self, ref: CheckpointRef, dataset: str, activations: np.ndarray) -> None:
        """`activations` [layer, statement, width], in the forward's dtype."""
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
        if arrays is None or "activations" not in arrays:
            raise InputError(f"{path}: damaged; delete it and trace its checkpoint again")
        return arrays["activations"]

    def write_vectors(
        self, ref: CheckpointRef, vectors: Mapping[str, np.ndarray], how: Mapping[str, Any], kind: str = MASS_MEAN
    ) -> None:
        """`vectors` [layer, width] per set, and how they were made (JSON values); all kinds before the table."""
        self.check_there()
        write_arrays(self.vectors_path(ref, kind), vectors, how)

    def drop_vectors(self, ref: CheckpointRef, kinds: Collection[str]) -> None:
        """Remove vectors of these kinds: they are of weights that the checkpoint does not hold any more."""
        for kind in kinds:
            self.vectors_path(ref, kind).unlink(missing_ok=True)

    def write_probes(self, ref: CheckpointRef, probes: Mapping[str, KeptProbes], how: Mapping[str, Any]) -> None:
        """Probes of each set, and how they were made (JSON values, `layers` among them); before the table."""
        self.check_there()
        write_probes(self.probes_path(ref.name), probes, how)

    def read_probes(
        self, name: str, sets: Collection[str] | None = None
    ) -> tuple[dict[str, KeptProbes], dict[str, Any]] | None:
        """Probes of a checkpoint and how they were made; see `jtrace.runs.probe_files.read_probes`."""
        return read_probes(self.probes_path(name), sets)

    def write_baseline(self, digest: str, arrays: Mapping[str, np.ndarray]) -> None:
        """What all checkpoints of an architecture are held against; `digest` tells of all that decides the arrays."""
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
    ) -> None:
        """Published vectors [layer, width] per set, projections, then the table: its presence says that all is done.

        Args:
            warnings: what a reader of its numbers should know; they stay with the table.
        """
        # What is written again, for another kind of vector as a rule, replaces the same numbers.
        again = self.table_path(ref).is_file()
        name = {"model": ref.model, "revision": ref.revision, "step": ref.step, "tokens": ref.tokens}
        table = pa.Table.from_pylist([name | vars(metric) for metric in metrics], schema=SCHEMA)
        about_table = {SOURCE_KEY: str(ref.source).encode(), FINGERPRINT_KEY: fingerprint.to_json().encode()}
        if content is not None:
            about_table[CONTENT_KEY] = content.to_json().encode()
        if warnings:
            about_table[WARNINGS_KEY] = json.dumps(list(warnings)).encode()
        try:
            self.write_vectors(ref, vectors, how)
            write_projections(self.projections_path(ref.name), projections)
            if content is not None:
                with atomic_write(self.stamp_path(ref)) as aside:
                    aside.write_text(f"{content.key} {content.stamp}")
            with atomic_write(self.table_path(ref)) as aside:
                pq.write_table(table.replace_schema_metadata(about_table), aside, write_page_checksum=True)
        except WriteError:
            if not again:
                written = [self.projections_path(ref.name), self.probes_path(ref.name)]
                with suppress(OSError):  # a vanished disk
                    for path in (*written, *(self.vectors_path(ref, kind) for kind in KINDS)):
                        path.unlink(missing_ok=True)
            raise

    def read_metrics(self) -> pd.DataFrame:
        """Every checkpoint's table as one; empty, with the right columns, if there is none."""
        tables = []
        for file in self.tables():
            try:
                table = _read_table(file).replace_schema_metadata(None)
            except (OSError, pa.ArrowException):
                raise InputError(f"{file}: damaged; delete it and trace its checkpoint again") from None
            if table.schema != SCHEMA:
                raise InputError(f"{file}: not a metrics table (it has other columns); move it elsewhere")
            tables.append(table)
        return pa.concat_tables([SCHEMA.empty_table(), *tables]).to_pandas(
            types_mapper={pa.int64(): pd.Int64Dtype()}.get
        )

    def read_projections(self, name: str) -> pd.DataFrame | None:
        """Points of a checkpoint's statements, see `jtrace.runs.projection_files`; None where there are none."""
        return read_projections(self.projections_path(name))

    def read_steering(self) -> pd.DataFrame:
        """Every steering table as one, columns `STEERING_COLUMNS`; empty if there is none.

        Of tables of the same vector and task, made with other settings, the latest counts.
        """
        tables = []
        for file in sorted((self.path / "steering").glob("*.parquet")):
            try:
                table = pq.read_table(file)
            except (OSError, pa.ArrowException):
                raise InputError(f"{file}: damaged; delete it and steer again") from None
            missing = [column for column in STEERING_COLUMNS if column not in table.column_names]
            if missing:
                raise InputError(f"{file}: no steering table (column {missing[0]} is missing); move it elsewhere")
            time = (table.schema.metadata or {}).get(TIME_KEY, b"").decode()
            tables.append((time, file.name, table.select(list(STEERING_COLUMNS)).to_pandas()))
        if not tables:
            return pd.DataFrame(columns=list(STEERING_COLUMNS))
        # Rows are in the order of the files' names.
        by_time = sorted(tables, key=lambda entry: entry[:2])
        rows = latest([table.assign(file=name) for _, name, table in by_time])
        return rows.sort_values("file", kind="stable", ignore_index=True).drop(columns="file")

    def record(self) -> dict[str, Any]:
        """What run.json says: `config`, `data`, `checkpoints`, `commands`, and `sets` where it is known.

        Raises:
            InputError: there is no such folder, or it is no run.
        """
        record = readable_record(self.path / RECORD)
        if record is None:
            raise InputError(f"{self.path}: no run directory (it holds no readable run.json); name one that was traced")
        return record

    def audit(self) -> list[str]:
        """Warnings on the weights of the checkpoints traced so far: equal ones, and ones out of place."""
        traced = []
        for path in self.tables():
            table = pq.read_table(path, columns=["model", "revision", "step"])
            written = (table.schema.metadata or {}).get(FINGERPRINT_KEY)
            if written is not None:  # a table of an earlier release has none
                (row,) = table.slice(0, 1).to_pylist()
                traced.append(
                    AuditedCheckpoint(path.stem, **row, fingerprint=WeightFingerprint.from_json(written.decode()))
                )
        return audit(traced)

    def warnings(self) -> list[str]:
        """What was said of checkpoints while they were traced, each once, with the checkpoints that it is of."""
        of: dict[str, list[str]] = {}
        for path in self.tables():
            kept = (pq.read_schema(path).metadata or {}).get(WARNINGS_KEY, b"[]")
            for warning in json.loads(kept):
                of.setdefault(warning, []).append(path.stem)
        return [f"{_names(checkpoints)}: {warning}" for warning, checkpoints in of.items()]

    def failures(self) -> Notes:
        """Checkpoints that could not be traced, by name."""
        return self._failures.read()

    def record_failure(self, ref: CheckpointRef, reason: str) -> None:
        """Note why a checkpoint could not be traced, in place of an earlier note on it."""
        self.check_there()
        self._failures.record(ref, reason)

    def clear_failures(self, refs: Iterable[CheckpointRef]) -> None:
        """These checkpoints have been traced after all."""
        self._failures.clear({ref.name for ref in refs})

    @property
    def _failures(self) -> Failures:
        return Failures(self.path / "failures.jsonl", self.lock("failures"))


def readable_record(path: Path) -> dict[str, Any] | None:
    """What a run.json says; None where there is none, or another kind of file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"config": dict, "data": dict, "checkpoints": list, "commands": list}
        if all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
            return record
    except (FileNotFoundError, NotADirectoryError, ValueError, AttributeError):
        pass
    return None


def _names(checkpoints: Sequence[str]) -> str:
    shown = ", ".join(checkpoints[:3])
    return shown if len(checkpoints) <= 3 else f"{shown} and {len(checkpoints) - 3} more"


def _read_table(path: Path) -> pa.Table:
    """A table whose pages are what was written, where their sums are known."""
    return pq.read_table(path, page_checksum_verification=True)
