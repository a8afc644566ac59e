"""Files of projections: where a checkpoint's statements lie in two dimensions, a row per layer and statement."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from jtrace.probing.records import Projection
from jtrace.runs.table_files import read_fixed, write_parts

PROJECTION_SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("dimension", pa.string()),
        ("layer", pa.int32()),
        ("row", pa.int64()),
        ("label", pa.int8()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)


def write_projections(path: Path, projections: Sequence[Projection]) -> None:
    """One file of all sets.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    write_parts(path, PROJECTION_SCHEMA, list(map(_table, projections)))


def read_projections(path: Path) -> pd.DataFrame | None:
    """Columns as `PROJECTION_SCHEMA`; None where there is no such file.

    Raises:
        InputError: it is damaged, or another kind of table.
    """
    return read_fixed(path, PROJECTION_SCHEMA, "projections")


def _table(projection: Projection) -> pa.Table:
    """A row per layer and statement."""
    layers, count, _ = projection.points.shape
    columns = [
        np.repeat(projection.dataset, layers * count),
        np.repeat(projection.dimension, layers * count),
        np.repeat(projection.layers, count),
        np.tile(projection.rows, layers),
        np.tile(projection.labels, layers),
        projection.points[..., 0].ravel(),
        projection.points[..., 1].ravel(),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PROJECTION_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=PROJECTION_SCHEMA)
