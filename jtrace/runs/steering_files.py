"""What steering leaves in a run directory: a table per target, vector and task, and every completion as a line.

Tables are in RUN/steering, which pandas reads whole, completions in RUN/completions. A completion is on disk before the
next batch is begun; a table is there whole or not at all.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.errors import InputError
from jtrace.runtime.atomic import atomic_write, cannot_write

SCHEMA = pa.schema(
    [
        ("target", pa.string()),
        ("vector_from", pa.string()),
        ("vector_set", pa.string()),
        ("layer", pa.int32()),
        ("strength", pa.float64()),
        ("positions", pa.string()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("n", pa.int64()),
        ("protocol", pa.string()),
        ("seed", pa.int64()),
    ]
)
# What names a row of one table.
IDENTITY = (
    "target",
    "vector_from",
    "vector_set",
    "layer",
    "strength",
    "positions",
    "task",
    "metric",
    "protocol",
    "seed",
)
# What is measured under the same settings: strengths and layers of one can be compared.
SERIES = ("target", "vector_from", "vector_set", "positions", "task", "protocol", "seed")
TIME_KEY = b"jtrace.time"
# What a metric's name begins with where it is of the rows that choose a setting, of the chosen setting, or less the
# unsteered model's on the same rows.
VALIDATION, CHOSEN, DIFFERENCE = AUXILIARY = "validation_", "chosen_", "difference_"
RANDOM = "random"
# A layer and a strength.
Setting = tuple[int, float]


def control_name(source: str) -> str:
    """What a random direction of a vector's norm is called: `NAME:random`, `NAME:whitened-random`."""
    return f"{source}-{RANDOM}" if ":" in source else f"{source}:{RANDOM}"


@dataclass(frozen=True)
class SteeringTable:
    """The files of one target under one vector, asked one task.

    Attributes:
        folder: RUN/steering.
        names: target, vector_from, vector_set, task.
        settings: all else that decides completions, as JSON values: another value, other files.
        measured: what decides the numbers beside the answers: another value, another table of the same completions.
    """

    folder: Path
    names: tuple[str, str, str, str]
    settings: Mapping[str, Any]
    measured: str = ""

    @property
    def table_path(self) -> Path:
        return self.folder / f"{self._stem(self.measured)}.parquet"

    @property
    def completions_path(self) -> Path:
        return _completions_of(self.folder) / f"{self._stem('')}.jsonl"

    def _stem(self, measured: str) -> str:
        digest = hashlib.sha256(json.dumps([self.settings, measured], sort_keys=True).encode()).hexdigest()
        return "__".join(map(_file_part, self.names)) + f"__{digest[:8]}"

    def read_table(self) -> pd.DataFrame:
        """Columns as `SCHEMA`; empty where there is none, or none that can be read: it is made anew then."""
        try:
            return pq.read_table(self.table_path, schema=SCHEMA).to_pandas()
        except (OSError, pa.ArrowException):
            return SCHEMA.empty_table().to_pandas()

    def write_table(self, rows: pd.DataFrame, time: str) -> None:
        table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
        with atomic_write(self.table_path) as aside:
            pq.write_table(table.replace_schema_metadata({TIME_KEY: time.encode()}), aside)

    def read_completions(self) -> dict[tuple[Setting, int], list[int]]:
        """Tokens by setting and index. What a killed process left unfinished at the end is cut off.

        Raises:
            InputError: a line in the middle cannot be read.
        """
        path = self.completions_path
        if not path.is_file():
            return {}
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with atomic_write(path) as aside:
                aside.write_bytes(whole)
        found = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                said = json.loads(line)
                found[(int(said["layer"]), float(said["strength"])), int(said["index"])] = list(said["tokens"])
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{path}, line {number}: cannot be read; delete this line, or the file") from None
        return found

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add completions; they are on disk afterwards."""
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            self.completions_path.parent.mkdir(exist_ok=True)
            with self.completions_path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"{self.completions_path}: cannot be written ({error.strerror}); free the disk and start again"
            ) from None


def move_completions(folder: Path) -> None:
    """Move the completions that an earlier release left beside the tables to where they are now.

    Args:
        folder: RUN/steering.

    Raises:
        WriteError: their folder cannot be made.
    """
    completions = _completions_of(folder)
    for file in folder.glob("*.jsonl"):
        try:
            completions.mkdir(exist_ok=True)
            if not (completions / file.name).exists():
                with suppress(FileNotFoundError):  # another process has moved it
                    os.replace(file, completions / file.name)
        except OSError as error:
            raise cannot_write(completions, error) from None


def _completions_of(folder: Path) -> Path:
    return folder.parent / "completions"


def merged(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Rows of one table as they came; of those that name the same, the last."""
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    return rows.drop_duplicates(list(IDENTITY), keep="last", ignore_index=True)


def latest(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of other settings as one: whatever `SERIES` names is taken whole from the last table that has it.

    Args:
        tables: the latest last.
    """
    rows = pd.concat([table.assign(table=at) for at, table in enumerate(tables)], ignore_index=True)
    last = rows.groupby(list(SERIES), dropna=False)["table"].transform("max")
    return rows[rows["table"] == last].drop(columns="table").reset_index(drop=True)


def _file_part(name: str) -> str:
    return re.sub(r"[^\w.@+-]+", "-", name, flags=re.ASCII) or "-"


def reported(steering: pd.DataFrame) -> pd.DataFrame:
    """Without the rows that only serve, or record, the choice of layer and strength, or tell a difference."""
    return steering[~steering["metric"].astype(str).str.startswith(AUXILIARY)]
