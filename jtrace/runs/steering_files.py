"""Files of steering in a run directory: a table per target, vector and task, and every completion as a line.

Tables are in RUN/steering, which pandas reads whole, completions in RUN/completions. A completion is on disk before the
next batch is begun; a table is there whole or not at all.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.errors import InputError
from jtrace.runs.table_check import check_table, columns_by_kind
from jtrace.runtime.atomic import atomic_write, cannot_write
from jtrace.runtime.foreign import foreign
from jtrace.runtime.locks import LOCKS, alone
from jtrace.runtime.parquet import read_parquet
from jtrace.runtime.small_files import parse_json, read_small

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
COLUMNS = SCHEMA.names
LONGEST_STEM = 190  # characters of a file name's parts; a file name has 255, and its digest, suffix and so on need some
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
LARGEST_COMPLETIONS = 8 << 30  # bytes
LARGEST_ID = 2**31
TIME_KEY = b"jtrace.time"
# What a metric's name begins with where it is of the rows that choose a setting, of the chosen setting, or less the
# unsteered model's on the same rows.
VALIDATION, CHOSEN, DIFFERENCE = AUXILIARY = "validation_", "chosen_", "difference_"
# A layer and a strength.
Setting = tuple[int, float]


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
        decisive, parts = [self.settings, measured], [_file_part(name) for name in self.names]
        if sum(map(len, parts)) > LONGEST_STEM:
            decisive, parts = [*decisive, self.names], [part[: LONGEST_STEM // len(parts)] for part in parts]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        return "__".join(parts) + f"__{digest[:8]}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other command writes steering files of this run, and keep them from it meanwhile.

        Raises:
            WriteError: the lock's file cannot be made.
        """
        locks = self.folder.parent / LOCKS
        try:
            locks.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(locks, error) from None
        with alone(locks / ".steering"):
            yield

    def read_table(self) -> pd.DataFrame:
        """Columns as `SCHEMA`; empty where there is none, or none that can be read: it is made anew then."""
        try:
            with foreign(self.table_path):
                table = read_parquet(self.table_path)
                return table.select(SCHEMA.names).cast(SCHEMA).to_pandas()
        except InputError:
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
        if not os.path.lexists(path):
            return {}
        with self.alone():  # what another command is appending is no unfinished line
            content = read_small(path, LARGEST_COMPLETIONS, "delete it")
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                with atomic_write(path) as aside:
                    aside.write_bytes(whole)
        tokens = {}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                said = parse_json(line)
                ids = said["tokens"]
                if not isinstance(ids, list) or not all(type(n) is int and 0 <= n < LARGEST_ID for n in ids):
                    raise ValueError("tokens are numbers")
                tokens[(int(said["layer"]), float(said["strength"])), int(said["index"])] = ids
            except (ValueError, KeyError, TypeError, OverflowError):
                raise InputError(f"{path}, line {number}: cannot be read; delete this line, or the file") from None
        return tokens

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add completions; they are on disk afterwards."""
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            self.completions_path.parent.mkdir(exist_ok=True)
            with self.alone(), self.completions_path.open("a", encoding="utf-8") as file:
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
    """Merge rows of one table as they came; of those that name the same, the last."""
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    return rows.drop_duplicates(list(IDENTITY), keep="last", ignore_index=True)


def latest(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Merge tables of other settings: whatever `SERIES` names is taken whole from the last table that has it.

    Args:
        tables: the latest last.
    """
    rows = pd.concat([table.assign(table=at) for at, table in enumerate(tables)], ignore_index=True)
    last = rows.groupby(list(SERIES), dropna=False)["table"].transform("max")
    return rows[rows["table"] == last].drop(columns="table").reset_index(drop=True)


def read_steering(folder: Path) -> pd.DataFrame:
    """Every table as one, columns as `SCHEMA`; empty if there is none.

    Of tables of the same vector and task, made with other settings, the latest counts.

    Args:
        folder: RUN/steering.

    Raises:
        InputError: a table is damaged, or of another kind.
    """
    tables = []
    for file in sorted(folder.glob("*.parquet")):
        table = read_parquet(file, what="damaged", remedy="delete it and steer again")
        check_table(f"{file}: no steering table", table, *columns_by_kind(SCHEMA), "move it elsewhere")
        time = (table.schema.metadata or {}).get(TIME_KEY, b"").decode(errors="replace")
        rows = table.select(COLUMNS).replace_schema_metadata(None)  # of pandas, which it trusts
        tables.append((time, file.name, rows.to_pandas()))
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    # Rows are in the order of the files' names.
    by_time = sorted(tables, key=lambda entry: entry[:2])
    rows = latest([table.assign(file=name) for _, name, table in by_time])
    return rows.sort_values("file", kind="stable", ignore_index=True).drop(columns="file")


def _file_part(name: str) -> str:
    return re.sub(r"[^\w.@+-]+", "-", name, flags=re.ASCII) or "-"


def reported(steering: pd.DataFrame) -> pd.DataFrame:
    """Leave out the rows that only serve, or record, the choice of layer and strength, or tell a difference."""
    return steering[~steering["metric"].astype(str).str.startswith(AUXILIARY)]
