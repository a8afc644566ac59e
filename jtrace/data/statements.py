"""Labelled statements, the type that all of jtrace works on."""

import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from jtrace.data.registry import SetInfo
from jtrace.errors import InputError

# A conversation: messages with `role` and `content`, as chat templates take them.
Chat = tuple[Mapping[str, str], ...]
BRIEF = reprlib.Repr()  # values in messages: one line, of bounded length
BRIEF.maxstring, BRIEF.maxlist = 60, 12


# eq=False: comparing arrays has no single truth value, and identity keeps the class hashable.
@dataclass(frozen=True, eq=False)
class Statements:
    """One set of N labelled statements, in a fixed order.

    A statement is a text, or a conversation `[{"role": "user", "content": "…"}, …]` that the model's own chat template
    is applied to. All of a set are of one form.

    Attributes:
        texts: exactly as given; a conversation is written out here by roles, for all that reads without a model.
        labels: 0 or 1, int8 [N], read-only; both must occur.
        groups: rows of one group are never split between train and test; None to find them in the texts.
        name: the set's name in tables; the file's stem, or the built-in name.
        source: the path as given, or `hub:owner/name@commit`; the name where there is none.
        rows: the row of the source where each statement starts, see `where`.
        info: facts of a built-in set; a file's name says nothing about the meaning of labels.
        chats: the conversations; None for texts.

    Raises:
        InputError: a statement or label that is none, other numbers of labels or groups than texts, or one class only.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...] | None = None
    name: str = "statements"
    source: str = ""
    rows: tuple[int, ...] = ()
    info: SetInfo | None = None
    chats: tuple[Chat, ...] | None = None

    def __post_init__(self) -> None:
        hold = partial(object.__setattr__, self)
        hold("source", self.source or self.name)
        if isinstance(self.texts, str):
            raise InputError(f"{self.source}: one text alone; give a list of texts, and a label for each")
        if self.chats is None and not all(isinstance(text, str) for text in self.texts):
            hold("chats", tuple(checked_chat(given, self.where(i)) for i, given in enumerate(self.texts)))
        hold("texts", tuple(self.texts) if self.chats is None else tuple(map(written_out, self.chats)))
        for i, text in enumerate(self.texts):
            if fault := text_fault(text, "statement"):
                raise InputError(f"{self.where(i)}: {fault}")
        hold("labels", _checked_labels(self.labels, self))
        if self.groups is not None:
            hold("groups", tuple(map(str, self.groups)))
            _check_count("groups", self.groups, self)

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        ones, form = int(self.labels.sum()), "texts" if self.chats is None else "conversations"
        return f"Statements({self.name!r}: {len(self)} {form}, {ones} of label 1, {len(self) - ones} of label 0)"

    @property
    def given(self) -> tuple[str, ...] | tuple[Chat, ...]:
        """Texts or conversations, as a model reads them."""
        return self.texts if self.chats is None else self.chats

    @property
    def dimension(self) -> str:
        """The dimension of trustworthiness; empty where unknown."""
        return self.info.dimension if self.info else ""

    @property
    def vector_fraction(self) -> float:
        """Leading share of the rows for a `paper` steering vector; 0.5 where unknown."""
        return self.info.vector_fraction if self.info else 0.5

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of texts, labels and groups, by which a run sees that its data changed."""
        content = json.dumps([self.given, self.labels.tolist(), self.groups])
        return hashlib.sha256(content.encode()).hexdigest()

    def where(self, i: int) -> str:
        """Writes the place of statement `i`, as `stereoset.csv, row 17`: its first line in a text file, or its row."""
        if not self.rows:
            return f"{self.source}, statement {i}"
        return f"{Path(self.source).name}, row {self.rows[i]}"


def written_out(chat: Chat) -> str:
    """Writes a conversation as a text, `role: content` a message."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in chat)


def text_fault(text: object, what: str) -> str:
    """Says what is wrong with a text, which messages call `what`; empty where nothing is."""
    if not isinstance(text, str):
        return f"{what} {BRIEF.repr(text)} is not text; write it as a string"
    if not text.strip():
        return f"the {what} is empty; fill it in or drop the row"
    # JSON can hold half a surrogate pair, which a tokeniser cannot encode.
    if any("\ud800" <= character <= "\udfff" for character in text):
        return f"{what} {BRIEF.repr(text)} holds half a surrogate pair; write whole characters"
    return ""


def checked_chat(given: object, where: str) -> Chat:
    """Returns a conversation with its roles and contents alone.

    Args:
        where: its place, for messages.

    Raises:
        InputError: it is no list of messages with a role and a content.
    """
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InputError(f"{where}: {BRIEF.repr(given)} is no list of messages; give all texts, or all conversations")
    for message in given:
        parts = [message.get(key) if isinstance(message, Mapping) else None for key in ("role", "content")]
        if not all(isinstance(part, str) for part in parts):
            raise InputError(f"{where}: {BRIEF.repr(message)} is no message; give a 'role' and a 'content', both texts")
    return tuple({"role": message["role"], "content": message["content"]} for message in given)


def _checked_labels(given: ArrayLike, statements: Statements) -> np.ndarray:
    """Returns the labels as read-only int8 [N]."""
    where = statements.source
    try:
        labels = np.asarray(given)
    except ValueError:
        raise InputError(f"{where}: the labels are no flat list; give 0 or 1 for each statement") from None
    if labels.ndim != 1:
        raise InputError(f"{where}: the labels have the shape {list(labels.shape)}; give a flat list of 0 and 1")
    _check_count("labels", labels, statements)
    wrong = ~np.isin(labels, (0, 1))
    if wrong.any():
        at = int(wrong.argmax())
        label = BRIEF.repr(labels[at].item())
        raise InputError(f"{statements.where(at)}: label {label} is not 0 or 1; mend it or drop the row")
    if len(labels) == 0:
        raise InputError(f"{where}: has no rows; give at least one statement of each label")
    if (labels == labels[0]).all():
        raise InputError(f"{where}: all {len(labels)} labels are {int(labels[0])}; a probe needs both 0 and 1")
    labels = labels.astype(np.int8)
    labels.setflags(write=False)
    return labels


def _check_count(what: str, given: Sized, statements: Statements) -> None:
    if len(given) != len(statements):
        raise InputError(f"{statements.source}: {len(given)} {what} for {len(statements)} statements; give one each")
