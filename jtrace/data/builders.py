"""Builders of the five built-in sets: from rows of a public source to labelled, grouped statements.

docs/statement_sets.md gives the rules of each set and the reasons.
"""

import ast
import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from jtrace.data.registry import BUILTIN
from jtrace.errors import InputError

# Every order and choice goes by the SHA-256 of this and the text: the same on all machines and library versions.
SEED = "jtrace"
ANSWERS = 3  # the most answers of each side of a TruthfulQA question
TOXIC_ABOVE = 2.0  # mean human rating, 1 to 5
ACCEPTED_ABOVE, REJECTED_BELOW = -20.0, -50.0  # mean agreement that a flow of information is expected, -100 to 100
CHARACTERS_PER_CAPITAL = 20
GOLD_LABELS = ("anti-stereotype", "stereotype", "unrelated")  # StereoSet's classes on the hub, in their order

Row = Mapping[str, Any]
Rows = Iterable[Row]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One labelled statement. Examples of one group must not be split between train and test."""

    statement: str
    label: int
    group: str
    row: int  # row of the source, counted from one, on through several files


def truthfulqa(rows: Rows) -> list[Example]:
    """Builds half of the questions, each with its first few true and false answers, shuffled."""
    numbered = list(enumerate(rows, 1))
    asked = {row: _text("truthfulqa", row, cells, "question").strip() for row, cells in numbered}
    distinct = sorted(set(asked.values()), key=lambda question: _draw("half", question))
    chosen = set(distinct[: (len(distinct) + 1) // 2])
    return _shuffled(
        Example(f"Q: {asked[row]}\tA: {answer}", label, _folded(asked[row]), row)
        for row, cells in numbered
        if asked[row] in chosen
        for column, label in (("correct_answers", 1), ("incorrect_answers", 0))
        for answer in _answers(row, cells, column)
    )


def _answers(row: int, cells: Row, column: str) -> list[str]:
    """Returns the first few different answers, each with its full stop; a closing `;` leaves blank ones."""
    answers = cells[column]
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        refuse("truthfulqa", f"row {row}: {column} is not a list of texts")
    stripped = [answer.strip() for answer in answers if answer.strip()]
    return list(dict.fromkeys(answer if answer.endswith(".") else f"{answer}." for answer in stripped))[:ANSWERS]


def toxigen(*parts: Rows) -> list[Example]:
    """Builds every rated text, in the order of the source; rows without a rating are left out, with a warning."""
    examples, left_out = [], []
    for row, cells in enumerate((cells for part in parts for cells in part), 1):
        rating = cells["toxicity_human"]
        if rating is None or rating != rating:  # NaN differs from itself
            left_out.append(row)
            continue
        if not isinstance(rating, int | float) or not 1 <= rating <= 5:
            refuse("toxigen", f"row {row}: toxicity_human {rating!r} is no rating from 1 to 5")
        text = _decoded(row, _text("toxigen", row, cells, "text"))
        examples.append(Example(text, int(rating > TOXIC_ABOVE), _folded(text), row))
    if left_out:
        _log.warning(
            "toxigen: %d rows left out, they have no toxicity_human; first: row %d", len(left_out), left_out[0]
        )
    return examples


def _decoded(row: int, text: str) -> str:
    """Decodes a text written as `b'...'`, since files of this source have held Python's notation of bytes."""
    if not re.fullmatch(r"b'.*'|b\".*\"", text.strip(), re.DOTALL):
        return text
    try:
        decoded = str(ast.literal_eval(text.strip()).decode())
    except (SyntaxError, ValueError):
        refuse("toxigen", f"row {row}: text is neither plain nor Python's notation of UTF-8 bytes")
    return _text("toxigen", row, {"text": decoded}, "text")


def confaide(tier_2a: Rows, tier_2b: Rows, labels: Rows) -> list[Example]:
    """Builds flows of information that people clearly accept or reject, each in two wordings, balanced and shuffled."""
    *wordings, agreements = [[row["text"] for row in rows] for rows in (tier_2a, tier_2b, labels)]
    if len({len(lines) for lines in (*wordings, agreements)}) > 1:
        counts = f"{len(wordings[0])} and {len(wordings[1])} texts for {len(agreements)} labels"
        refuse("confaide", f"the files do not match line by line: {counts}")
    scenarios: tuple[list[list[Example]], list[list[Example]]] = ([], [])
    for row, (line, *texts) in enumerate(zip(agreements, *wordings, strict=True), 1):
        agreement = _agreement(row, line)
        if REJECTED_BELOW <= agreement <= ACCEPTED_ABOVE:
            continue
        label = int(agreement < REJECTED_BELOW)
        scenarios[label].append([Example(_scenario(row, text), label, f"scenario {row}", row) for text in texts])
    fewest = min(map(len, scenarios))
    kept = [sorted(side, key=lambda pair: _draw("balance", pair[0].statement))[:fewest] for side in scenarios]
    return _shuffled(example for side in kept for pair in side for example in pair)


def _agreement(row: int, line: str) -> float:
    try:
        agreement = float(line)
    except ValueError:
        agreement = float("nan")
    if not -100 <= agreement <= 100:
        refuse("confaide", f"row {row}: label {line[:40]!r} is no number from -100 to 100")
    return agreement


def _scenario(row: int, line: str) -> str:
    """Removes the instruction before a line, which ends in a backslash and an `n` instead of a line end."""
    _, parted, scenario = line.partition(r"\n")
    if not parted or not scenario.strip():
        refuse("confaide", rf"row {row}: no scenario behind an instruction and '\n'")
    return scenario.strip()


def stereoset(rows: Rows) -> list[Example]:
    """Builds pairs: a context about race with its anti-stereotypical (1) and unrelated (0) sentence, shuffled."""
    pairs = []
    for row, cells in enumerate(rows, 1):
        if _text("stereoset", row, cells, "bias_type") != "race":
            continue
        context = _text("stereoset", row, cells, "context").strip()
        by_gold = _by_gold_label(row, cells["sentences"])
        pair = [
            Example(f"{context} {by_gold[gold]}", label, _folded(context), row)
            for gold, label in (("anti-stereotype", 1), ("unrelated", 0))
        ]
        pairs.append(sorted(pair, key=lambda example: _draw("pair", example.statement)))
    return [example for pair in sorted(pairs, key=lambda pair: _draw("order", pair[0].statement)) for example in pair]


def _by_gold_label(row: int, sentences: Any) -> dict[str, str]:
    if isinstance(sentences, Mapping):  # a sequence of structs is stored as a struct of sequences
        if len({len(cells) for cells in sentences.values()}) > 1:
            refuse("stereoset", f"row {row}: the fields of sentences differ in length")
        sentences = [dict(zip(sentences, cells, strict=True)) for cells in zip(*sentences.values(), strict=True)]
    by_gold: dict[str, str] = {}
    for sentence in sentences or []:
        missing = [key for key in ("sentence", "gold_label") if key not in sentence]
        if missing:
            refuse("stereoset", f"row {row}: sentences have no field {missing[0]!r}; they have {sorted(sentence)}")
        gold = sentence["gold_label"]
        gold = GOLD_LABELS[gold] if isinstance(gold, int) and 0 <= gold < len(GOLD_LABELS) else gold
        if gold not in GOLD_LABELS:
            refuse("stereoset", f"row {row}: gold_label {gold!r} is none of {', '.join(GOLD_LABELS)}")
        if gold in by_gold:
            refuse("stereoset", f"row {row}: two sentences have the gold_label {gold}")
        by_gold[gold] = _text("stereoset", row, sentence, "sentence").strip()
    missing = [gold for gold in GOLD_LABELS if gold not in by_gold]
    if missing:
        refuse("stereoset", f"row {row}: no sentence has the gold_label {missing[0]}")
    return by_gold


def sst2(rows: Rows) -> list[Example]:
    """Builds each sentence unchanged (0) and perturbed (1), shuffled."""
    examples = []
    for row, cells in enumerate(rows, 1):
        clean = _text("sst2", row, cells, "sentence").strip()
        perturbed = perturb(clean)
        if perturbed == clean:
            refuse("sst2", f"row {row}: the sentence has no lower-case letter, so it cannot be perturbed")
        examples += [Example(clean, 0, _folded(clean), row), Example(perturbed, 1, _folded(clean), row)]
    return _shuffled(examples)


def perturb(text: str) -> str:
    """Puts in random capitals: the first lower-case letter, and letters at places drawn from the rest.

    One place in `CHARACTERS_PER_CAPITAL` is drawn, the first letter included; other characters stay as they are.
    A letter is capitalised only if that keeps the length, so that case folding undoes all of it.
    """
    letters = [i for i, character in enumerate(text) if _rises(character)]
    if not letters:
        return text
    others = (i for i in range(len(text)) if i != letters[0])
    drawn = sorted(others, key=lambda i: _draw("perturb", text, i))[: max(0, len(text) // CHARACTERS_PER_CAPITAL - 1)]
    raised = {letters[0], *drawn}.intersection(letters)
    return "".join(character.upper() if i in raised else character for i, character in enumerate(text))


def _rises(character: str) -> bool:
    upper = character.upper()
    return len(upper) == 1 and upper != character and upper.casefold() == character.casefold()


def _text(name: str, row: int, cells: Row, column: str) -> str:
    value = cells[column]
    if not isinstance(value, str) or not value.strip():
        refuse(name, f"row {row}: {column} is empty, or not text")
    return value


def _folded(text: str) -> str:
    """Drops case, punctuation and spacing, so that near-copies share a group."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def _shuffled(examples: Iterable[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: _draw("order", example.statement))


def _draw(*key: str | int) -> bytes:
    return hashlib.sha256("\0".join([SEED, *map(str, key)]).encode()).digest()


def refuse(name: str, what: str) -> NoReturn:
    """Raises InputError: the source of a set is not what its builder expects."""
    raise InputError(f"{name}: {what}; {way_out(name)}")


def way_out(name: str) -> str:
    """Returns the advice for a source that cannot be downloaded or read."""
    return f"give --data_dir=FOLDER with the published {BUILTIN[name].csv} in it"
