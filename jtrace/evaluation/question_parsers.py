"""Rows of the capability tasks' public files → questions. What a row lacks is a ValueError, for its reader to place."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from string import ascii_uppercase
from typing import Any

from jtrace.evaluation.capability import CapabilityQuestion
from jtrace.runtime.small_files import parse_json

Row = Mapping[str, Any]
_LETTERS = "abcde"  # of MathQA's answers
_MARK = re.compile(rf"\s*([{_LETTERS}])\s*\)", re.IGNORECASE)
_MARKS = re.compile(rf"(?:^|,){_MARK.pattern}", re.IGNORECASE)


def cell(row: Row, column: str) -> Any:
    """The cell; ValueError where there is none."""
    if column not in row:
        raise ValueError(f"no column {column!r}; there are {', '.join(map(str, row))}")
    return row[column]


def text(row: Row, column: str) -> str:
    """The text in a cell, which may be empty; ValueError where there is none."""
    value = cell(row, column)
    if not isinstance(value, str):
        raise ValueError(f"{column} is not text")
    return value


def _texts(row: Row, column: str) -> tuple[str, ...]:
    """Two or more texts without blanks around them, from a list, or in CSV from a JSON list."""
    values = _unpacked(row, column)
    if not isinstance(values, list) or len(values) < 2 or not all(isinstance(item, str) for item in values):
        raise ValueError(f"{column} is not a list of two texts or more")
    return tuple(item.strip() for item in values)


def _unpacked(row: Row, column: str) -> Any:
    value = cell(row, column)
    try:
        return parse_json(value, finite=False) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{column} is no JSON ({error})") from error


def _position(row: Row, column: str, keys: Iterable[str]) -> int:
    """Which of the keys a cell holds."""
    key, known = str(cell(row, column)).strip(), list(keys)
    if key not in known:
        raise ValueError(f"{column} {key!r} is none of {', '.join(known)}")
    return known.index(key)


def _mmlu(index: int, row: Row) -> CapabilityQuestion:
    choices = _texts(row, "choices")
    right = _position(row, "answer", map(str, range(len(choices))))
    subject = text(row, "subject") if "subject" in row else ""
    return CapabilityQuestion(index, text(row, "question").strip(), choices, right, subject=subject.strip())


def _arc(index: int, row: Row) -> CapabilityQuestion:
    answers = _unpacked(row, "choices")
    if not isinstance(answers, Mapping):
        raise ValueError("choices is not an object with text and label")
    choices, labels = _texts(answers, "text"), _texts(answers, "label")
    if len(choices) != len(labels):
        raise ValueError(f"choices has {len(choices)} texts for {len(labels)} labels")
    return CapabilityQuestion(index, text(row, "question").strip(), choices, _position(row, "answerKey", labels))


def _race(index: int, row: Row) -> CapabilityQuestion:
    article, choices = text(row, "article").strip(), _texts(row, "options")
    right = _position(row, "answer", ascii_uppercase[: len(choices)])
    return CapabilityQuestion(index, text(row, "question").strip(), choices, right, context=article, group=article)


def _mathqa(index: int, row: Row) -> CapabilityQuestion:
    choices = answers_in(text(row, "options"))
    right = _position(row, "correct", _LETTERS[: len(choices)])
    return CapabilityQuestion(index, text(row, "Problem").strip(), choices, right)


def answers_in(options: str) -> tuple[str, ...]:
    """The answers in a cell of MathQA's `options`, two to five.

    Written either `a ) 38 , b ) 27.675 , c ) none of these` or as Python's `['a ) 38', 'b ) 27.675']`. Answers may hold
    commas and parentheses, even `gcd ( a , b )`: of the ways to divide a cell into most answers, the one that
    leaves fewest parentheses and brackets open within an answer is taken, and of those the first.

    Raises:
        ValueError: the cell is written in neither way.
    """
    answers = _listed(options) if options.lstrip().startswith("[") else _divided(options)
    if len(answers) < 2:
        raise ValueError(f"options {options[:60]!r} are not written as 'a ) …, b ) …'")
    return answers


def _listed(options: str) -> tuple[str, ...]:
    """The answers of Python's notation; none where it is not that."""
    try:
        items = ast.literal_eval(options.strip())
    except (SyntaxError, TypeError, ValueError):
        return ()
    marks = [_MARK.match(item) if isinstance(item, str) else None for item in items]
    letters = [mark[1].lower() if mark else "" for mark in marks]
    if letters != list(_LETTERS[: len(items)]):
        return ()
    return tuple(item[mark.end() :].strip() for item, mark in zip(items, marks, strict=True) if mark)


def _divided(options: str) -> tuple[str, ...]:
    """The answers of the plain notation, see `answers_in`; none where it does not begin with a mark."""
    marks = list(_MARKS.finditer(options))
    letters = [mark[1].lower() for mark in marks]
    # Per mark, of the best way to divide what begins there: −answers, brackets left open, and the marks that are meant.
    best: dict[int, tuple[int, int, list[int]]] = {}
    for i in reversed(range(len(marks))):
        ways = [(-1, _left_open(options[marks[i].end() :]), [i])]
        for j, (answers, left_open, meant) in best.items():
            if ord(letters[j]) == ord(letters[i]) + 1:
                left_open += _left_open(options[marks[i].end() : marks[j].start()])
                ways.append((answers - 1, left_open, [i, *meant]))
        best[i] = min(ways)
    if not marks or marks[0].start() > 0 or letters[0] != "a":
        return ()
    meant = best[0][2]
    ends = [marks[i].start() for i in meant[1:]] + [len(options)]
    return tuple(options[marks[i].end() : end].strip() for i, end in zip(meant, ends, strict=True))


def _left_open(text: str) -> int:
    """How many brackets stay open, whatever their shapes: `[ 1 , 2 )` is an interval."""
    opened = 0
    for character in text:
        opened = max(0, opened + (character in "([") - (character in ")]"))
    return opened


# Index of the row from zero, and the row, to the question.
QUESTIONS: Mapping[str, Callable[[int, Row], CapabilityQuestion]] = {
    "mmlu": _mmlu,
    "arc_easy": _arc,
    "arc_challenge": _arc,
    "race": _race,
    "mathqa": _mathqa,
}
