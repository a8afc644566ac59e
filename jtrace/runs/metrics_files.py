"""Tables of metrics: a Parquet file per checkpoint, with what it was made from in its metadata."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.checkpoints.audit import AuditedCheckpoint, WeightFingerprint
from jtrace.checkpoints.content import Content
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError
from jtrace.probing.protocols import PROTOCOLS
from jtrace.probing.records import Metric
from jtrace.runs.table_check import check_table, columns_by_kind
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.foreign import foreign
from jtrace.runtime.parquet import read_parquet
from jtrace.runtime.small_files import parse_json

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
TRACE_AGAIN = "delete it and trace its checkpoint again"
SOURCE_KEY = b"jtrace.source"
FINGERPRINT_KEY = b"jtrace.fingerprint"
CONTENT_KEY = b"jtrace.content"
WARNINGS_KEY = b"jtrace.warnings"


@dataclass(frozen=True)
class Origin:
    """Origin of a table: the source's name, and its content, which tables of earlier releases do not tell."""

    source: str
    content: Content | None

    @property
    def key(self) -> str:
        """Key that the answers of the checkpoint are kept by."""
        return self.content.key if self.content else self.source


def write_metrics(
    path: Path,
    ref: CheckpointRef,
    metrics: Sequence[Metric],
    fingerprint: WeightFingerprint,
    content: Content | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write a checkpoint's table.

    Args:
        warnings: what a reader of its numbers should know.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    table = _table(ref, metrics)
    about = {SOURCE_KEY: str(ref.source).encode(), FINGERPRINT_KEY: fingerprint.to_json().encode()}
    if content is not None:
        about[CONTENT_KEY] = content.to_json().encode()
    if warnings:
        about[WARNINGS_KEY] = json.dumps(list(warnings)).encode()
    with atomic_write(path) as aside:
        pq.write_table(table.replace_schema_metadata(about), aside, write_page_checksum=True)


def read_metrics(paths: Iterable[Path]) -> pd.DataFrame:
    """Tables as one; empty, with the right columns, if there is none.

    Raises:
        InputError: a table is damaged, or of another kind.
    """
    tables = [SCHEMA.empty_table()]
    for path in paths:
        table = _read_table(path).replace_schema_metadata(None)
        if table.schema != SCHEMA:
            raise InputError(f"{path}: not a metrics table (it has other columns); move it elsewhere")
        check_table(f"{path}: no metrics table", table, *columns_by_kind(SCHEMA), TRACE_AGAIN)
        if unknown := set(table["protocol"].unique().to_pylist()) - set(PROTOCOLS):
            raise InputError(f"{path}: has rows of an unknown protocol {min(unknown)!r}; {TRACE_AGAIN}")
        if not len(table):
            raise InputError(f"{path}: holds no rows; {TRACE_AGAIN}")
        tables.append(table)
    return _frame(pa.concat_tables(tables))


def metrics_frame(ref: CheckpointRef | None, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Metrics of a checkpoint as `read_metrics` gives them; None where no checkpoint is known."""
    return _frame(_table(ref, metrics))


def _table(ref: CheckpointRef | None, metrics: Sequence[Metric]) -> pa.Table:
    name = {key: getattr(ref, key) if ref else None for key in ("model", "revision", "step", "tokens")}
    return pa.Table.from_pylist([name | vars(metric) for metric in metrics], schema=SCHEMA)


def _frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def made_from(path: Path) -> Origin | None:
    """Origin of a table; None where there is no table, or none that can be read."""
    try:
        with foreign(path):
            about = _read_table(path).schema.metadata or {}
            content = about.get(CONTENT_KEY)
            return Origin(about.get(SOURCE_KEY, b"").decode(), Content.from_json(content.decode()) if content else None)
    except InputError:
        return None


def is_damaged(path: Path) -> bool:
    """Tell whether there is a table that cannot be read."""
    return os.path.lexists(path) and made_from(path) is None


def read_fingerprints(paths: Iterable[Path]) -> list[AuditedCheckpoint]:
    """Checkpoints that tables are of, with their weights' fingerprints; tables of earlier releases have none.

    Raises:
        InputError: a table is damaged, or its fingerprint has another size than those of the others.
    """
    checkpoints: list[AuditedCheckpoint] = []
    for path in paths:
        with foreign(path, "damaged", TRACE_AGAIN):
            table = _read_table(path, ["model", "revision", "step"])
            written = (table.schema.metadata or {}).get(FINGERPRINT_KEY)
            if written is None:
                continue
            (row,) = table.slice(0, 1).to_pylist()
            fingerprint = WeightFingerprint.from_json(written.decode())
            if checkpoints and fingerprint.slices.shape != checkpoints[0].fingerprint.slices.shape:
                raise ValueError("its fingerprint has another size than those of the others")
            checkpoints.append(AuditedCheckpoint(path.stem, **row, fingerprint=fingerprint))
    return checkpoints


def read_warnings(path: Path) -> list[str]:
    """Warnings that a table was written with.

    Raises:
        InputError: the table is damaged.
    """
    with foreign(path, "damaged", TRACE_AGAIN):
        warnings = parse_json((_read_table(path, []).schema.metadata or {}).get(WARNINGS_KEY, b"[]"))
        if not isinstance(warnings, list) or not all(isinstance(warning, str) for warning in warnings):
            raise ValueError("its warnings are no list of texts")
    return warnings


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A table whose pages are what was written, where their sums are known."""
    return read_parquet(path, columns, what="damaged", remedy=TRACE_AGAIN)
