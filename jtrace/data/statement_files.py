"""Readers of statement files: CSV, JSONL and Parquet with columns `statement,label[,group]`."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jtrace.data.registry import BUILTIN
from jtrace.data.statements import BRIEF, Statements, text_fault
from jtrace.errors import InputError
from jtrace.runtime.foreign import foreign
from jtrace.runtime.parquet import WRITE_ANEW, read_parquet
from jtrace.runtime.small_files import parse_json, read_small

_COLUMNS = ("statement", "label", "group")
_LABELS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # numbers and truth values as text
LARGEST_SET = 512 << 20  # bytes


def read_file(name: str, source: str) -> Statements:
    """Reads the set in a file.

    Args:
        name: name of the set.
        source: path of the file.

    Raises:
        InputError: there is no such file, or it breaks a rule (the message names file and row).
    """
    path = Path(source)
    reader = READERS.get(path.suffix.lower())
    if source and path.is_dir():
        raise InputError(f"{source!r} is a folder; name a {' or '.join(READERS)} file")
    if reader is None:
        raise InputError(f"no statement set {source!r}; {CHOICES}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path or --data_dir")
    records = reader(path)
    if not records:
        raise InputError(f"{path}: has no rows; give at least one statement of each label")
    grouped = any("group" in cells for _, cells in records)
    rows, texts, labels, groups = [], [], [], []
    for row, cells in records:
        at = f"{path}, row {row}"
        rows.append(row)
        texts.append(_text(cells.get("statement"), "statement", at))
        labels.append(_label(cells.get("label"), at))
        if grouped:
            groups.append(_group(cells.get("group"), at))
    return Statements(
        tuple(texts), np.array(labels), tuple(groups) if grouped else None, name=name, source=source, rows=tuple(rows)
    )


# The rows of a file, each with its number and its cells by column.
_Records = list[tuple[int, dict[str, Any]]]


def _read_csv(path: Path) -> _Records:
    text = _read_text(path)
    # newline="\n" leaves carriage returns inside fields alone and counts lines as editors do.
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    numbered: list[tuple[int, list[str]]] = []
    start, limit = 1, csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        for fields in reader:
            if len(fields) > 1 or "".join(fields).strip():  # blank lines are skipped
                numbered.append((start, fields))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, row {start}: damaged CSV ({error}); mend the quotes of this row") from error
    finally:
        csv.field_size_limit(limit)  # the limit is global to the process
    if not numbered:
        return []
    columns = numbered[0][1]
    _check_columns(path, columns)
    for row, fields in numbered[1:]:
        if len(fields) != len(columns):
            counts = f"{len(fields)} fields, but the header has {len(columns)}"
            raise InputError(f"{path}, row {row}: {counts}; quote a field that holds a comma")
    return [(row, dict(zip(columns, fields, strict=True))) for row, fields in numbered[1:]]


def _read_jsonl(path: Path) -> _Records:
    # Not splitlines(): JSON strings may contain the separators U+2028 and U+0085.
    lines = enumerate(_read_text(path).split("\n"), 1)
    records: _Records = []
    for row, line in ((row, line) for row, line in lines if line.strip()):
        try:
            cells = parse_json(line, _unique_keys, finite=False)
        except ValueError as error:
            raise InputError(f"{path}, row {row}: damaged JSON ({error}); write one object per line") from error
        if not isinstance(cells, dict):
            raise InputError(f"{path}, row {row}: {BRIEF.repr(cells)} is not a JSON object; write one object per line")
        records.append((row, cells))
    if records:
        _check_columns(path, list(dict.fromkeys(key for _, cells in records for key in cells)))
    return records


def _read_parquet(path: Path) -> _Records:
    with foreign(path, "cannot be read as Parquet", WRITE_ANEW):
        table = read_parquet(path, _COLUMNS, check=lambda names: _check_columns(path, names))
        return list(enumerate(table.select([c for c in _COLUMNS if c in table.column_names]).to_pylist(), 1))


READERS: dict[str, Callable[[Path], _Records]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
CHOICES = f"there are {', '.join(BUILTIN)}, world, and {', '.join(READERS)} files"


def _read_text(path: Path) -> str:
    """Reads a file's text without a byte order mark; line ends stay unless all are carriage returns."""
    raw = read_small(path, LARGEST_SET, "give a part of it")
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        cause = f"byte {error.start}, 0x{raw[error.start]:02x}, is not UTF-8"
        raise InputError(f"{path}, row {row}: {cause}; save the file as UTF-8") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, row {row}: holds a NUL character; save the file as UTF-8 text")
    return text if "\n" in text else text.replace("\r", "\n")  # line ends of old Macs, and of Excel for them


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raises InputError unless there are one `statement`, one `label` and at most one `group`; others are ignored."""
    for column in _COLUMNS:
        if columns.count(column) > 1:
            raise InputError(f"{path}: {columns.count(column)} columns are called {column!r}; drop all but one")
        if column not in columns and column != "group":
            raise InputError(f"{path}: no column {column!r}; the columns are {BRIEF.repr(list(columns))}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("one key twice")
    return dict(pairs)


def _text(value: Any, what: str, at: str) -> str:
    if value is None:
        raise InputError(f"{at}: no {what}; give every row one")
    if fault := text_fault(value, what):
        raise InputError(f"{at}: {fault}")
    return value


def _label(value: Any, at: str) -> int:
    number = _LABELS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(number, int | float) or number not in (0, 1):
        raise InputError(f"{at}: label {BRIEF.repr(value)} is not 0 or 1; mend it or drop the row")
    return int(number)


def _group(value: Any, at: str) -> str:
    return _text(None if value is None or value != value else str(value), "group", at)  # NaN differs from itself
