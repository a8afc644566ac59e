"""Files of held-out scores: what a checkpoint's probes say of statements that they have not seen, a row for each."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from jtrace.probing.records import HeldOut
from jtrace.runs.table_files import read_fixed, write_parts

SCORE_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("protocol", pa.string()),
        ("layer", pa.int32()),
        ("row", pa.int64()),
        ("label", pa.int8()),
        ("score", pa.float32()),
    ]
)


def write_scores(path: Path, held_out: Sequence[HeldOut]) -> None:
    """Writes one file of all sets and protocols.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    write_parts(path, SCORE_SCHEMA, list(map(_table, held_out)))


def read_scores(path: Path) -> pd.DataFrame | None:
    """Reads a file of scores, columns as `SCORE_SCHEMA`; None where there is no such file.

    Raises:
        InputError: it is damaged, or another kind of table.
    """
    return read_fixed(path, SCORE_SCHEMA, "held-out scores")


def _table(one: HeldOut) -> pa.Table:
    count = len(one.rows)
    columns = [[one.dataset] * count, [one.protocol] * count, [one.layer] * count, one.rows, one.labels, one.scores]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCORE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCORE_SCHEMA)
