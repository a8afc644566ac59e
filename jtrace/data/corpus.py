"""What a model is pre-trained on: documents, read from local files.

A document is a plain text or a conversation. Any iterable of documents will do for pre-training; this is where those of
the user's own files come from.
"""

import glob
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jtrace.errors import InputError

SUFFIXES = (".txt", ".jsonl")


class Message(NamedTuple):
    """A turn of a conversation; what the role `assistant` says is what the model learns to say."""

    role: str
    content: str


Conversation = tuple[Message, ...]
Document = str | Conversation


def read_documents(specs: Sequence[str]) -> list[Document]:
    """The documents of text files, folders of them, or globs, in the order named, files of a folder by name.

    A `.txt` file holds one document per line; lines that are blank separate nothing and are left out. A `.jsonl` file
    holds one object per line: `text`, or `messages`, a list of objects with `role` and `content`.

    Raises:
        InputError: a spec names nothing, or a file is empty, not UTF-8, or has a line that holds no document.
    """
    files = [file for spec in specs for file in _files_of(spec.strip())]
    if not files:
        raise InputError("--text names nothing; give .txt or .jsonl files, folders or globs of them")
    return [document for file in files for document in _read_file(file)]


def texts_of(documents: Iterable[Document]) -> Iterator[str]:
    """Every piece of text, as a tokeniser is trained on them."""
    for document in documents:
        if isinstance(document, str):
            yield document
        else:
            yield from (message.content for message in document)


def documents_fingerprint(documents: Iterable[Document]) -> str:
    """A hash over all documents in their order."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps(document, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _files_of(spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_dir():
        found = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES)
    elif path.is_file():
        found = [path]
    elif glob.has_magic(spec):
        found = sorted(Path(name) for name in glob.glob(spec) if Path(name).is_file())
    else:
        raise InputError(f"--text: '{spec}' is neither a file nor a folder; give .txt or .jsonl files")
    if not found:
        raise InputError(f"--text: '{spec}' holds no {' or '.join(SUFFIXES)} file")
    other = [file for file in found if file.suffix not in SUFFIXES]
    if other:
        raise InputError(f"--text: '{other[0]}' is neither {' nor '.join(SUFFIXES)}; convert it")
    return found


def _read_file(file: Path) -> list[Document]:
    try:
        # Only \n ends a document: other separators of Unicode may stand within one.
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: byte {error.start} is not UTF-8; convert the file") from None
    numbered = [(number, line.strip("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InputError(f"{file}: holds no text")
    if file.suffix == ".txt":
        return [line for _, line in numbered]
    return [_from_json(line, f"{file}:{number}") for number, line in numbered]


def _from_json(line: str, where: str) -> Document:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not a JSON object ({error})") from None
    if not isinstance(value, dict) or ("text" in value) == ("messages" in value):
        raise InputError(f"{where}: an object with either 'text' or 'messages' is needed")
    if "messages" in value:
        return _conversation(value["messages"], where)
    if not isinstance(value["text"], str) or not value["text"].strip():
        raise InputError(f"{where}: 'text' is not a string with something in it; remove the line")
    return value["text"]


def _conversation(turns: Any, where: str) -> Conversation:
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in turns
    ):
        raise InputError(f"{where}: 'messages' is not a list of objects with the strings 'role' and 'content'")
    if not any(turn["role"] == "assistant" for turn in turns):
        raise InputError(f"{where}: no turn is the assistant's, so there is nothing to learn; remove the line")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)
