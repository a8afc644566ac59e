"""Rows of the capability tasks, of WikiText-2 and of TruthfulQA's choices, from a folder or the hub."""

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jtrace.data import sources
from jtrace.errors import InputError
from jtrace.evaluation.capability import CapabilityQuestion
from jtrace.evaluation.question_parsers import QUESTIONS, Row, cell, text
from jtrace.runtime.foreign import foreign
from jtrace.runtime.parquet import WRITE_ANEW, read_parquet
from jtrace.runtime.small_files import parse_json, read_small

T = TypeVar("T")
LARGEST_TASK = 512 << 20  # bytes
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskFile:
    """A dataset on the Hugging Face hub, and the Parquet file there of each split."""

    repository: str  # `owner/name`
    revision: str  # commit, or a branch
    files: Mapping[str, str]

    def __str__(self) -> str:
        return f"hub:{self.repository}@{self.revision}"


_ARC = ("allenai/ai2_arc", "210d026faf9955653af8916fad021475a3f00453")
SOURCES: Mapping[str, TaskFile] = {
    "mmlu": TaskFile(
        "cais/mmlu",
        "c30699e8356da336a370243923dbaf21066bb9fe",
        {"test": "all/test-00000-of-00001.parquet", "dev": "all/dev-00000-of-00001.parquet"},
    ),
    "arc_easy": TaskFile(
        *_ARC,
        {"test": "ARC-Easy/test-00000-of-00001.parquet", "dev": "ARC-Easy/validation-00000-of-00001.parquet"},
    ),
    "arc_challenge": TaskFile(
        *_ARC,
        {"test": "ARC-Challenge/test-00000-of-00001.parquet", "dev": "ARC-Challenge/validation-00000-of-00001.parquet"},
    ),
    "race": TaskFile(
        "ehovy/race",
        "2fec9fd81f1dc971569a9b729c43f2f0e6436637",
        {"test": "all/test-00000-of-00001.parquet", "dev": "all/validation-00000-of-00001.parquet"},
    ),
    # A mirror: `allenai/math_qa` is a script, which `datasets` refuses.
    "mathqa": TaskFile(
        "regisss/math_qa",
        "main",
        {"test": "data/test-00000-of-00001.parquet", "dev": "data/validation-00000-of-00001.parquet"},
    ),
    "wikitext": TaskFile(
        "Salesforce/wikitext",
        "b08601e04326c79dfdd32d625aee71d232d685c3",
        {"test": "wikitext-2-raw-v1/test-00000-of-00001.parquet"},
    ),
    "truthfulqa": TaskFile(
        sources.SOURCES["truthfulqa"].repository,
        sources.SOURCES["truthfulqa"].revision,
        {"mc": "multiple_choice/validation-00000-of-00001.parquet"},
    ),
}


def read_capability(
    task: str, data_dir: Path | None, cache_dir: Path | None
) -> tuple[tuple[CapabilityQuestion, ...], tuple[CapabilityQuestion, ...]]:
    """The test and the dev questions of a capability task.

    Rows with an empty question or answer are left out, with a warning.

    Args:
        task: `mmlu`, `arc_easy`, `arc_challenge`, `race` or `mathqa`.
        data_dir: a folder that may hold `{task}_test` and `{task}_dev` as .parquet, .jsonl, .json (a list of objects)
            or .csv (lists and objects as JSON), with the hub's columns, of which MMLU's `subject` may be absent. Where
            it has a test file the hub is not asked: without a dev file there are no dev questions.
        cache_dir: where downloads are kept, as for `jtrace.data.sources.build`.

    Raises:
        InputError: no such task, a file cannot be had or read, or a row is not as expected; the file is named.
    """
    if task not in QUESTIONS:
        raise InputError(f"no capability task {task!r}; there are {', '.join(QUESTIONS)}")
    has = {split: _local(f"{task}_{split}", data_dir) is not None for split in SOURCES[task].files}
    if has["dev"] and not has["test"]:
        raise InputError(f"{data_dir}: has a {task}_dev file but no {task}_test file; add it, or remove the other")
    test = _questions(task, "test", data_dir, cache_dir)
    if has["test"] and not has["dev"]:
        return test, ()
    return test, _questions(task, "dev", data_dir, cache_dir)


def read_wikitext(data_dir: Path | None, cache_dir: Path | None) -> str:
    """The test split of WikiText-2, raw (arXiv 1609.07843), as one text.

    Rows that carry their own line ends, as the hub's do, are joined as they are, others by line ends.

    Args:
        data_dir: a folder that may hold `wikitext.txt`, which is the text, or `wikitext_test.parquet`, column `text`.
        cache_dir: as for `read_capability`.

    Raises:
        InputError: the file cannot be had or read, or a row has no text; the file is named.
    """
    path = data_dir / "wikitext.txt" if data_dir else None
    if path and path.is_file():
        return _read(str(path), path, _decoded)
    lines = _parsed(*_rows("wikitext", "test", data_dir, cache_dir), lambda _, row: text(row, "text"))
    return ("" if all(line.endswith("\n") for line in lines if line) else "\n").join(lines)


def read_truthfulqa_choices(data_dir: Path | None, cache_dir: Path | None) -> list[dict[str, Any]]:
    """TruthfulQA's 817 questions with answers to choose from.

    Args:
        data_dir: a folder that may hold `truthfulqa_mc.parquet` or `truthfulqa_mc.jsonl`, of the hub's columns.
        cache_dir: as for `read_capability`.

    Returns:
        Per question `question`, and `mc1_targets` and `mc2_targets`, of `choices` and 0/1 `labels` each.

    Raises:
        InputError: the file cannot be had or read, or lacks a column; the file is named.
    """
    columns = ("question", "mc1_targets", "mc2_targets")
    rows = _rows("truthfulqa", "mc", data_dir, cache_dir)
    return _parsed(*rows, lambda _, row: {column: cell(row, column) for column in columns})


def _questions(task: str, split: str, data_dir: Path | None, cache_dir: Path | None) -> tuple[CapabilityQuestion, ...]:
    where, rows = _rows(task, split, data_dir, cache_dir)
    questions = _parsed(where, rows, QUESTIONS[task])
    kept = tuple(question for question in questions if question.stem and all(question.choices))
    if len(kept) < len(questions):
        _log.warning("%s: %d rows left out, a question or an answer is empty", where, len(questions) - len(kept))
    return kept


def _parsed(where: str, rows: Sequence[Row], parse: Callable[[int, Row], T]) -> list[T]:
    """What `parse` makes of index and row; its ValueError becomes an InputError that counts rows from one."""
    parsed = []
    for index, row in enumerate(rows):
        try:
            parsed.append(parse(index, row))
        except ValueError as error:
            way_out = "mend it, in a copy in --data_dir if the file is the hub's"
            raise InputError(f"{where}, row {index + 1}: {error}; {way_out}") from error
    return parsed


def _rows(name: str, split: str, data_dir: Path | None, cache_dir: Path | None) -> tuple[str, Sequence[Row]]:
    """What a split's file is called in messages, and its rows."""
    path = _local(f"{name}_{split}", data_dir)
    if path:
        return str(path), _read(str(path), path, _READERS[path.suffix])
    source = SOURCES[name]
    where = f"{source.files[split]} of {source}"
    try:
        path = Path(sources.fetch(source.repository, source.revision, source.files[split], cache_dir))
    # The libraries raise dozens of types, and every one means here that this file is not to be had.
    except Exception as error:
        way_out = f"give --data_dir=FOLDER with {name}_{split}.parquet in it"
        raise sources.cannot_load(name, where, error, way_out) from error
    return where, _read(where, path, _READERS[path.suffix])


def _local(stem: str, data_dir: Path | None) -> Path | None:
    """The file of that name in the folder, whichever of the formats it has."""
    if data_dir is None:
        return None
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder; check --data_dir")
    paths = (data_dir / f"{stem}{suffix}" for suffix in _READERS)
    return next((path for path in paths if path.is_file()), None)


# Readers: a file becomes its rows, each the cells by column.


def _read(where: str, path: Path, read: Callable[[Path], T]) -> T:
    with foreign(where, remedy=WRITE_ANEW):
        rows = read(path)
    if not rows:
        raise InputError(f"{where}: is empty; give at least one row")
    return rows


def _read_parquet(path: Path) -> Sequence[Row]:
    return list(read_parquet(path, what="cannot be read").to_pylist())


def _read_jsonl(path: Path) -> Sequence[Row]:
    # Not splitlines(): JSON strings may hold the separators U+2028 and U+0085 as they are.
    return _objects([parse_json(line, finite=False) for line in _decoded(path).split("\n") if line.strip()])


def _read_json(path: Path) -> Sequence[Row]:
    return _objects(parse_json(_decoded(path), finite=False))


def _objects(rows: Any) -> Sequence[Row]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("not a list of objects")
    return rows


def _read_csv(path: Path) -> Sequence[Row]:
    rows = list(csv.DictReader(io.StringIO(_decoded(path), newline=""), strict=True))
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} has more or fewer fields than the header")
    return rows


def _decoded(path: Path) -> str:
    return read_small(path, LARGEST_TASK).decode("utf-8-sig")


_READERS: Mapping[str, Callable[[Path], Sequence[Row]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
}
