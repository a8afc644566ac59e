"""CSV, JSONL and Parquet files of statements: columns `statement,label[,group]`."""

import csv
import io
import json
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.errors import InputError

_COLUMNS = ("statement", "label", "group")
_LABELS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # as numbers and truth values are written out
_brief = reprlib.Repr()  # values in messages: one line, of bounded length
_brief.maxstring, _brief.maxlist = 60, 12


def read_file(name: str, source: str) -> Statements:
    """Read the set that a file holds.

    Args:
        name: of the set.
        source: the path.

    Raises:
        InputError: no such file, or it breaks a rule (the message names file and row).
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
    if len(set(labels)) == 1:
        raise InputError(f"{path}: all {len(labels)} labels are {labels[0]}; a probe needs both 0 and 1")
    return Statements(name, tuple(texts), np.array(labels), tuple(groups) if grouped else None, source, tuple(rows))


# Readers: a file becomes its rows, each with its number and its cells by column.
_Records = list[tuple[int, dict[str, Any]]]


def _read_csv(path: Path) -> _Records:
    text = _read_text(path)
    # newline="\n" leaves carriage returns inside fields alone and counts lines as editors do.
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    numbered: list[tuple[int, list[str]]] = []
    start, limit = 1, csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        for fields in reader:
            if len(fields) > 1 or "".join(fields).strip():  # a blank line is no record
                numbered.append((start, fields))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, row {start}: damaged CSV ({error}); mend the quotes of this row") from error
    finally:
        csv.field_size_limit(limit)  # the limit is the whole process's
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
    # Not splitlines(): JSON strings may hold the separators U+2028 and U+0085 as they are.
    lines = enumerate(_read_text(path).split("\n"), 1)
    records: _Records = []
    for row, line in ((row, line) for row, line in lines if line.strip()):
        try:
            cells = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, row {row}: damaged JSON ({error}); write one object per line") from error
        if not isinstance(cells, dict):
            raise InputError(f"{path}, row {row}: {_brief.repr(cells)} is not a JSON object; write one object per line")
        records.append((row, cells))
    if records:
        _check_columns(path, list(dict.fromkeys(key for _, cells in records for key in cells)))
    return records


def _read_parquet(path: Path) -> _Records:
    try:
        # Not read_table(): it would take columns from folder names such as `label=1`.
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            wanted = [name for name in _COLUMNS if name in file.schema_arrow.names]
            return list(enumerate(file.read(columns=wanted).to_pylist(), 1))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as Parquet ({cause}); write the file anew") from error


READERS: dict[str, Callable[[Path], _Records]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
CHOICES = f"there are {', '.join(BUILTIN)}, world, and {', '.join(READERS)} files"


def _read_text(path: Path) -> str:
    """The file's text without a byte order mark, line ends untouched unless all are carriage returns."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        cause = f"byte {error.start}, 0x{raw[error.start]:02x}, is not UTF-8"
        raise InputError(f"{path}, row {row}: {cause}; save the file as UTF-8") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, row {row}: holds a NUL character; save the file as UTF-8 text")
    return text if "\n" in text else text.replace("\r", "\n")  # as old Macs, and Excel for them, end lines


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise unless there is one `statement`, one `label` and at most one `group`; others do not matter."""
    for column in _COLUMNS:
        if columns.count(column) > 1:
            raise InputError(f"{path}: {columns.count(column)} columns are called {column!r}; drop all but one")
        if column not in columns and column != "group":
            raise InputError(f"{path}: no column {column!r}; the columns are {_brief.repr(list(columns))}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("one key twice")
    return dict(pairs)


def _text(value: Any, what: str, at: str) -> str:
    if value is None:
        raise InputError(f"{at}: no {what}; give every row one")
    if not isinstance(value, str):
        raise InputError(f"{at}: {what} {_brief.repr(value)} is not text; write it as a string")
    if not value.strip():
        raise InputError(f"{at}: the {what} is empty; fill it in or drop the row")
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can spell it, a tokeniser cannot take it
        raise InputError(f"{at}: {what} {_brief.repr(value)} holds half a surrogate pair; write whole characters")
    return value


def _label(value: Any, at: str) -> int:
    number = _LABELS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(number, int | float) or number not in (0, 1):
        raise InputError(f"{at}: label {_brief.repr(value)} is not 0 or 1; mend it or drop the row")
    return int(number)


def _group(value: Any, at: str) -> str:
    return _text(None if value is None or value != value else str(value), "group", at)  # NaN differs from itself
