"""Tables of dynamics: what the checkpoints of a run come to together, a Parquet file each."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.errors import InputError
from jtrace.runtime.atomic import atomic_write, cannot_write


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
        InputError: its file is damaged.
    """
    path = folder / f"{name}.parquet"
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException):
        raise InputError(f"{path}: damaged; delete it, the next trace into this run makes it anew") from None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None
