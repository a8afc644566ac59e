"""Labelled statements and where they are read from: built-in sets and CSV, JSONL or Parquet files."""

import csv
import hashlib
import io
import json
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from jtrace.errors import InputError

_COLUMNS = ("statement", "label", "group")
_LABELS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # as numbers and truth values are written out
_brief = reprlib.Repr()  # values in messages: one line, of bounded length
_brief.maxstring, _brief.maxlist = 60, 12


@dataclass(frozen=True)
class SetInfo:
    """What is known of a built-in set beside its rows."""

    dimension: str  # reliability, toxicity, privacy, fairness or robustness
    vector_fraction: float  # leading share of the rows that a `paper` steering vector is made of
    label_one: str  # what label 1 means
    one_is_good: bool  # whether label 1 is the trustworthy side
    csv: str  # file name inside --data_dir


BUILTIN: Mapping[str, SetInfo] = {
    "truthfulqa": SetInfo("reliability", 1.0, "the answer is true", True, "truthfulqa_train.csv"),
    "toxigen": SetInfo("toxicity", 0.5, "toxic", False, "toxigen.csv"),
    "confaide": SetInfo("privacy", 0.5, "violates privacy", False, "confaide.csv"),
    # Label 0 is an unrelated sentence; no stereotype is among the published rows (docs/statement_sets.md).
    "stereoset": SetInfo("fairness", 0.5, "an anti-stereotypical continuation", True, "stereoset.csv"),
    "sst2": SetInfo("robustness", 0.5, "the text was perturbed", False, "sst2.csv"),
}
# The built-in sets' published CSV files, by the fingerprint of what they hold: they are known under any name.
PUBLISHED: Mapping[str, str] = {
    "1ed1add2cb409d26b111fa965a002cb1337765359d3a38c4f0f7b0a8cc6a4dcf": "truthfulqa",
    "7ba70e7e6994bd9ae9c724912d9092991069cebf43c1dc4a9b2e38549105d3ff": "toxigen",
    "3bd01b555c3f94d99beee129e6d00cfd8aebb84e1e64c1da3b30cf5652ed114b": "confaide",
    "689fdc8c58e2909ab548a5cde621e3e1d7a8f3cfa994b9c4e6ae62946ad1cfe5": "stereoset",
    "234a26aa30eab35d9360c4b48ded2d3e31c8d1c8fe6d402d8853a82503572fd5": "sst2",
}
# The sets of the invented world (jtrace.data.world), by dimension.
WORLD: Mapping[str, SetInfo] = {
    f"world-{dimension}": SetInfo(dimension, 0.5, label_one, one_is_good, f"world-{dimension}.csv")
    for dimension, label_one, one_is_good in (
        ("reliability", "the answer is true", True),
        ("toxicity", "an insult", False),
        ("privacy", "a secret is told to those who are not trusted with it", False),
        ("fairness", "a prejudice about a folk", False),
        ("robustness", "the text was perturbed", False),
    )
}


# eq=False: comparing arrays has no single truth value, and identity keeps the class hashable.
@dataclass(frozen=True, eq=False)
class Statements:
    """One set of N labelled statements, in a fixed order. `labels` is int8 [N] and read-only."""

    name: str  # the file's stem, or the built-in name
    texts: tuple[str, ...]  # exactly as in the file, or as built
    labels: np.ndarray
    groups: tuple[str, ...] | None  # rows of one group must not be split between train and test
    source: str  # the path as given, or `hub:owner/name@commit`
    rows: tuple[int, ...]  # where each statement starts in the source, see `where`
    info: SetInfo | None = None  # of a built-in set; a file's name says nothing of what its labels mean

    def __post_init__(self) -> None:
        labels = np.array(self.labels, np.int8)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def dimension(self) -> str:
        """The dimension of trustworthiness; empty where unknown."""
        return self.info.dimension if self.info else ""

    @property
    def vector_fraction(self) -> float:
        """Leading share of the rows that a `paper` steering vector is made of; 0.5 where unknown."""
        return self.info.vector_fraction if self.info else 0.5

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of texts, labels and groups: tells a run whether its data changed."""
        content = json.dumps([self.texts, self.labels.tolist(), self.groups])
        return hashlib.sha256(content.encode()).hexdigest()

    def where(self, i: int) -> str:
        """`stereoset.csv, row 17`: the line of a text file that statement `i` starts on, or its Parquet or hub row."""
        return f"{Path(self.source).name}, row {self.rows[i]}"


def read_all(
    specs: Sequence[str], data_dir: Path | None = None, cache_dir: Path | None = None
) -> tuple[Statements, ...]:
    """The sets of every entry of --statements, as `read_statements` reads it; `world` is five of them.

    Raises:
        InputError: no entry, two sets of one name, or an entry that cannot be read.
    """
    if not specs:
        raise InputError(f"--statements names no set; {_CHOICES}")
    sets = tuple(found for spec in specs for found in _read_entry(spec, data_dir, cache_dir))
    for one, other in combinations(sets, 2):
        if one.name == other.name:
            raise InputError(f"two sets are called {one.name!r}: {one.source} and {other.source}; rename or drop one")
    return sets


def _read_entry(spec: str, data_dir: Path | None, cache_dir: Path | None) -> tuple[Statements, ...]:
    from jtrace.data.world import spec as world
    from jtrace.data.world import statement_sets as sets

    if world.names_world(spec):
        return sets.read_world_sets(spec)
    return (read_statements(spec, data_dir, cache_dir),)


def read_statements(spec: str, data_dir: Path | None = None, cache_dir: Path | None = None) -> Statements:
    """Read one entry of --statements: a built-in name, or the path of a CSV, JSONL or Parquet file.

    Args:
        spec: the entry.
        data_dir: folder of the built-in sets' published CSV files; without it they are built from the hub.
        cache_dir: where downloads are kept, see `hub.build`.

    Raises:
        InputError: no such set or file, the file breaks a rule (the message names file and row), or the hub is out
            of reach.
    """
    if spec not in BUILTIN:
        found = _read_file(Path(spec).stem, spec)
        return replace(found, info=BUILTIN.get(PUBLISHED.get(found.fingerprint, "")))
    if data_dir is None:
        from jtrace.data import sources as hub

        return hub.build(spec, cache_dir)
    return replace(_read_file(spec, str(Path(data_dir) / BUILTIN[spec].csv)), info=BUILTIN[spec])


def _read_file(name: str, source: str) -> Statements:
    path = Path(source)
    reader = _READERS.get(path.suffix.lower())
    if source and path.is_dir():
        raise InputError(f"{source!r} is a folder; name a {' or '.join(_READERS)} file")
    if reader is None:
        raise InputError(f"no statement set {source!r}; {_CHOICES}")
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
    import pyarrow
    from pyarrow import parquet

    try:
        # Not read_table(): it would take columns from folder names such as `label=1`.
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            wanted = [name for name in _COLUMNS if name in file.schema_arrow.names]
            return list(enumerate(file.read(columns=wanted).to_pylist(), 1))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as Parquet ({cause}); write the file anew") from error


_READERS: dict[str, Callable[[Path], _Records]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
_CHOICES = f"there are {', '.join(BUILTIN)}, world, and {', '.join(_READERS)} files"


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
