"""Texts for a terminal: control characters escaped, and texts that still grow laid out so that printed lines stand.

What is laid out of a longer text begins with what is laid out of a shorter one, so that only the rest is printed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category, east_asian_width

# Embeddings, overrides and isolates of writing direction: they would reorder what stands around them.
_DIRECTION = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
BETWEEN = " | "
NARROWEST = 32  # cells of a column that can be read


@dataclass(frozen=True)
class GrowingText:
    """A text under a heading.

    Attributes:
        heading: empty for none.
        text: as much as cannot change any more.
        done: whether that is all.
    """

    heading: str
    text: str
    done: bool


def escaped(text: str) -> str:
    """Writes out control characters other than line ends and tabs, so that a terminal shows and does not obey them."""
    return "".join(map(_escaped, text))


def laid_out(texts: Sequence[GrowingText], width: int = 0) -> str:
    """Lays out texts: side by side where a terminal of `width` cells is wide enough, else one after the other.

    The result is complete, without a line end, once all texts are done.
    """
    column = (width - len(BETWEEN) * (len(texts) - 1)) // len(texts)
    if len(texts) > 1 and column >= NARROWEST:
        return _side_by_side(texts, column)
    parts = []
    for text in texts:
        parts.append((f"{text.heading}\n" if text.heading else "") + escaped(text.text).strip())
        if not text.done:
            break
    return "\n\n".join(parts)


def wrapped(text: str, width: int) -> list[str]:
    """Breaks a text into lines of at most `width` cells, between words where it can; blanks at a break are left out."""
    lines = []
    for paragraph in text.expandtabs(4).split("\n"):
        line = ""
        for blanks, word in re.findall(r"( *)([^ ]+)", paragraph):
            if line and cells(line + blanks + word) > width:
                lines.append(line)
                line = word
            else:
                line += (blanks if cells(blanks + word) <= width else "") + word
            while cells(line) > width:
                cut = _fitting(line, width)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    return lines


def cells(text: str) -> int:
    """Counts the cells that a text takes on a terminal: two for a wide character, none for a combining one."""
    return sum(map(_cells, text))


def _side_by_side(texts: Sequence[GrowingText], width: int) -> str:
    columns = [wrapped(text.heading, width) for text in texts]
    top = max(map(len, columns))
    settled = []
    for column, text in zip(columns, texts, strict=True):
        column += [""] * (top - len(column)) + ["-" * width] + wrapped(escaped(text.text).strip(), width)
        # The last line of a text that goes on may still change.
        settled.append(None if text.done else len(column) - 1)
    longest = max(map(len, columns))
    rows = min(longest if end is None else end for end in settled)
    lines = []
    for row in range(rows):
        parts = [column[row] if row < len(column) else "" for column in columns]
        padded = [part + " " * (width - cells(part)) for part in parts]
        lines.append(BETWEEN.join(padded).rstrip())
    return "\n".join(lines)


def _fitting(line: str, width: int) -> int:
    """Counts the characters at a line's beginning that fit; one at least."""
    taken = 0
    for at, character in enumerate(line):
        taken += _cells(character)
        if taken > width and at:
            return at
    return len(line)


def _cells(character: str) -> int:
    if category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def _escaped(character: str) -> str:
    if character in "\n\t" or (category(character) != "Cc" and character not in _DIRECTION):
        return character
    return character.encode("unicode_escape").decode()
