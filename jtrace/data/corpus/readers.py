"""Readers of training documents: from local files or from a `datasets` id, one by one.

A document is a plain text or a conversation. Pre-training takes any iterable of documents that can be read more than
once; these are the ones that a spec names.
"""

import glob
import hashlib
import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import load_dataset

from jtrace.data.corpus.document import Conversation, Document, Message
from jtrace.data.world.pretraining_text import world_documents
from jtrace.data.world.spec import names_world
from jtrace.errors import InputError
from jtrace.runtime.paths import matching
from jtrace.runtime.small_files import open_regular, parse_json

SUFFIXES = (".txt", ".jsonl")
LONGEST_DOCUMENT = 256 << 20  # bytes
HUB = "hub:"
HUB_OPTIONS = ("config", "split", "column", "limit")


Source = Callable[[], Iterable[Document]]


@dataclass(frozen=True)
class Documents:
    """Documents in order, read again at every iteration; one at a time is in memory."""

    sources: tuple[Source, ...]

    def __iter__(self) -> Iterator[Document]:
        for source in self.sources:
            yield from source()


class TextFingerprint:
    """A fingerprint of documents, computed while they are read."""

    def __init__(self) -> None:
        self._digest, self._count, self._characters = hashlib.sha256(), 0, 0

    def watch(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yields the same documents, adding each to the fingerprint."""
        for document in documents:
            self._digest.update(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            self._count += 1
            self._characters += sum(map(len, texts_of([document])))
            yield document

    def values(self) -> dict[str, Any]:
        """Returns number, characters and ordered hash of the documents so far."""
        return {"count": self._count, "characters": self._characters, "sha256": self._digest.hexdigest()}


def read_documents(specs: Sequence[str], cache_dir: Path | None = None) -> Documents:
    """Returns the documents that specs name, in the order named.

    - `path/to/file.txt`: one document per line; blank lines separate nothing and are left out
    - `path/to/file.jsonl`: one object per line: `text`, or `messages`, a list of objects with `role` and `content`
    - `path/to/folder`, `path/to/*.txt`: such files, by name
    - `hub:org/name`: a dataset of the Hugging Face hub, or a local folder of its files; options follow as
      `:config=NAME`, `:split=NAME` (train), `:column=NAME` (`text`, or `messages`), `:limit=COUNT` (the first rows,
      read without downloading the others); blank texts are left out
    - `world`, `world-chat`: documents of, or conversations in, the invented world; see `jtrace.data.world.spec`

    Args:
        cache_dir: folder of downloads, laid out as HF_HOME; by default Hugging Face's cache.

    Raises:
        InputError: a spec names nothing; or, when the documents are read, a file is empty, not UTF-8, or has a line
            that holds no document, or a dataset cannot be reached or has no such column.
    """
    named = [spec.strip() for spec in specs if spec.strip()]
    if not named:
        raise InputError(
            "--text names nothing; give .txt or .jsonl files, folders or globs of them, hub:org/name or world"
        )
    return Documents(tuple(source for spec in named for source in _sources(spec, cache_dir)))


def texts_of(documents: Iterable[Document]) -> Iterator[str]:
    """Yields every piece of text, for training a tokeniser."""
    for document in documents:
        if isinstance(document, str):
            yield document
        else:
            yield from (message.content for message in document)


def _sources(spec: str, cache_dir: Path | None) -> list[Source]:
    """Returns the readers of one spec's documents."""
    if names_world(spec):
        return [world_documents(spec)]
    if spec.startswith(HUB):
        return [partial(_read_dataset, spec, *_parse_hub(spec), cache_dir)]
    return [partial(_read_file, file) for file in _files_of(spec)]


def _files_of(spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES)
    elif path.is_file():
        files = [path]
    elif glob.has_magic(spec):
        files = sorted(Path(name) for name in matching(spec) if Path(name).is_file())
    else:
        raise InputError(f"--text: '{spec}' is neither a file nor a folder; give .txt or .jsonl files, or hub:org/name")
    if not files:
        raise InputError(f"--text: '{spec}' holds no {' or '.join(SUFFIXES)} file")
    other = [file for file in files if file.suffix not in SUFFIXES]
    if other:
        raise InputError(f"--text: '{other[0]}' is neither {' nor '.join(SUFFIXES)}; convert it")
    return files


def _read_file(file: Path) -> Iterator[Document]:
    holds_text, offset = False, 0
    with open_regular(file) as opened:
        # Only \n ends a document: it may contain other separators of Unicode.
        for number, raw in enumerate(iter(lambda: opened.readline(LONGEST_DOCUMENT + 1), b""), 1):
            if len(raw) > LONGEST_DOCUMENT:
                raise InputError(f"{file}:{number}: a line of more than {LONGEST_DOCUMENT} bytes; divide it")
            try:
                line = raw.decode("utf-8").strip("\r\n")
            except UnicodeDecodeError as error:
                raise InputError(f"{file}: byte {offset + error.start} is not UTF-8; convert the file") from None
            offset += len(raw)
            if number == 1:
                line = line.removeprefix("\ufeff")  # a byte order mark is not text
            if line.strip():
                holds_text = True
                yield line if file.suffix == ".txt" else _from_json(line, f"{file}:{number}")
    if not holds_text:
        raise InputError(f"{file}: holds no text")


def _from_json(line: str, where: str) -> Document:
    try:
        value = parse_json(line, finite=False)
    except ValueError as error:
        raise InputError(f"{where}: not a JSON object ({error})") from None
    if not isinstance(value, dict) or ("text" in value) == ("messages" in value):
        raise InputError(f"{where}: an object with either 'text' or 'messages' is needed")
    if "messages" in value:
        return _conversation(value["messages"], "messages", where)
    if not isinstance(value["text"], str) or not value["text"].strip():
        raise InputError(f"{where}: 'text' is not a string with something in it; remove the line")
    return value["text"]


def _conversation(turns: Any, column: str, where: str) -> Conversation:
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in turns
    ):
        raise InputError(f"{where}: '{column}' is not a list of objects with the strings 'role' and 'content'")
    if not any(turn["role"] == "assistant" for turn in turns):
        raise InputError(f"{where}: no turn is the assistant's, so there is nothing to learn; remove the line")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _parse_hub(spec: str) -> tuple[str, dict[str, str]]:
    """Reads the dataset and the options of a `hub:` spec."""
    name, *parts = spec.removeprefix(HUB).split(":")
    options: dict[str, str] = {}
    for key, equals, value in (part.partition("=") for part in parts):
        if key not in HUB_OPTIONS or not equals or not value or key in options:
            known = ", ".join(f"{option}=…" for option in HUB_OPTIONS)
            raise InputError(f"--text: '{spec}': '{key}{equals}{value}' is none of {known}, each once")
        options[key] = value
    if not name:
        raise InputError(f"--text: '{spec}' names no dataset; write hub:org/name")
    if not (limit := options.get("limit", "1")).isdecimal() or int(limit) < 1:
        raise InputError(f"--text: '{spec}': limit={limit} is no number of documents above 0")
    return name, options


def _read_dataset(spec: str, name: str, options: dict[str, str], cache_dir: Path | None) -> Iterator[Document]:
    rows, number, column = _open_dataset(spec, name, options, cache_dir), 0, ""
    while True:
        try:
            row = next(rows, None)
        # The libraries raise dozens of types, and each means here that the rows cannot be read.
        except Exception as error:
            raise _unreachable(spec, error) from error
        if row is None or number == int(options.get("limit", number + 1)):
            break
        number += 1
        column = column or _column(spec, row, options.get("column"))
        value = row[column]
        if isinstance(value, list):
            yield _conversation(value, column, f"--text: '{spec}', row {number}")
        elif not isinstance(value, str):
            raise InputError(f"--text: '{spec}', row {number}: '{column}' holds neither text nor a list of messages")
        elif value.strip():
            yield value
    if not number:
        raise InputError(f"--text: '{spec}' holds no rows")


def _open_dataset(spec: str, name: str, options: dict[str, str], cache_dir: Path | None) -> Iterator[dict[str, Any]]:
    try:
        return iter(
            load_dataset(
                name,
                options.get("config"),
                split=options.get("split", "train"),
                streaming="limit" in options,
                cache_dir=str(cache_dir / "datasets") if cache_dir else None,
            )
        )
    except Exception as error:
        raise _unreachable(spec, error) from error


def _column(spec: str, row: dict[str, Any], wanted: str | None) -> str:
    """Returns the column of the documents: the wanted one, or `text`, or `messages`."""
    name = next((column for column in ((wanted,) if wanted else ("text", "messages")) if column in row), None)
    if name is None:
        what = f"column '{wanted}'" if wanted else "column 'text' or 'messages'"
        raise InputError(f"--text: '{spec}' has no {what}; it has {', '.join(row)}; add :column=NAME")
    return name


def _unreachable(spec: str, error: Exception) -> InputError:
    cause = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
    return InputError(f"--text: '{spec}' cannot be loaded ({cause}); check the name, the options and the connection")
