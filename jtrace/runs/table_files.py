"""Files of a table whose columns are fixed, one per checkpoint: written whole, read back or refused."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.errors import InputError
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.parquet import read_parquet
from jtrace.runtime.small_files import MissingFileError


def write_parts(path: Path, schema: pa.Schema, parts: Sequence[pa.Table]) -> None:
    """Writes tables as one.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    with atomic_write(path) as aside:
        pq.write_table(pa.concat_tables([schema.empty_table(), *parts]), aside)


def read_fixed(path: Path, schema: pa.Schema, kind: str) -> pd.DataFrame | None:
    """Reads a file of these columns; None where there is no such file.

    Args:
        kind: what its rows are, for messages.

    Raises:
        InputError: it is damaged, or another kind of table.
    """
    try:
        table = read_parquet(path, what="damaged", remedy="delete it and trace its checkpoint again")
    except MissingFileError:
        return None
    table = table.replace_schema_metadata(None)
    if table.schema != schema:
        raise InputError(f"{path}: no table of {kind} (it has other columns); move it elsewhere")
    return table.to_pandas()
