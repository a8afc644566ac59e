"""Tables of dynamics: what the checkpoints of a run come to together, a Parquet file each."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.runs.table_check import check_table
from jtrace.runtime.atomic import atomic_write, cannot_write
from jtrace.runtime.foreign import foreign
from jtrace.runtime.parquet import read_parquet
from jtrace.runtime.small_files import MissingFileError

CURVE = ("model", "axis", "protocol", "dataset", "dimension", "layer", "metric")
# Columns of each table that are read of it.
COLUMNS = {
    "onsets": (*CURVE, "line", "checkpoint", "at", "ci_low", "ci_high"),
    "change_points": (*CURVE, "number", "checkpoint", "at", "ci_low", "ci_high", "slope_before", "slope_after"),
    "turns": (*CURVE, "checkpoint", "at", "ci_low", "ci_high", "rise", "fall", "p"),
    "angles": (
        *("model", "kind", "dataset", "other_dataset", "checkpoint", "other_checkpoint"),
        *("layer", "other_layer", "cosine"),
    ),
    "subspaces": ("model", "layer", "checkpoint", "other_checkpoint", "number", "degrees"),
    "correlations": (
        *("model", "protocol", "dataset", "dimension", "layer", "x", "y", "n"),
        *(f"{name}{end}" for name in ("pearson", "spearman", "changes") for end in ("", "_low", "_high")),
    ),
    "transfer": (
        *("model", "protocol", "dataset", "dimension", "layer", "trained_at", "tested_at", "accuracy", "auroc", "n"),
    ),
}
TEXTS = {
    *("model", "axis", "protocol", "dataset", "dimension", "metric", "line", "checkpoint", "kind", "other_dataset"),
    *("other_checkpoint", "x", "y", "trained_at", "tested_at"),
}


def write_dynamics(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """FOLDER/NAME.parquet for each table; one that has no rows is not there, nor is what an earlier run left of it.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    for name, rows in tables.items():
        path = folder / f"{name}.parquet"
        if rows.empty:
            _remove(path)
            continue
        # What pandas would note down of itself differs between its versions.
        table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
        with atomic_write(path) as aside:
            pq.write_table(table, aside, write_page_checksum=True)


def read_dynamics(folder: Path, name: str) -> pd.DataFrame | None:
    """One table; None where there is none.

    Raises:
        InputError: its file is damaged, or lacks a column.
    """
    path = folder / f"{name}.parquet"
    remedy = "delete it, the next trace into this run makes it anew"
    try:
        table = read_parquet(path, remedy=remedy, what="damaged")
    except MissingFileError:
        return None
    columns = COLUMNS.get(name, ())
    texts, numbers = [c for c in columns if c in TEXTS], [c for c in columns if c not in TEXTS]
    check_table(f"{path}: no table of {name}", table, texts, numbers, remedy)
    with foreign(path, "damaged", remedy):
        return table.to_pandas()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
