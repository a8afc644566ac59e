"""Files of completions, read to be shown: the first prompts of each file of RUN/completions, under every setting."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from jtrace.runtime.small_files import open_regular, parse_json

TEXTS = ("target", "vector_from", "vector_set", "task", "positions", "prompt", "completion")
COLUMNS = ("target", "vector_from", "vector_set", "task", "positions", "layer", "strength", "index", "prompt",
           "completion")  # fmt: skip
LONGEST_LINE = 1 << 20  # bytes
MOST_LINES = 20_000  # of a file


def read_completions(run: Path, most: int) -> pd.DataFrame:
    """Reads completions of steered models, columns `COLUMNS`, in the order of the files' names.

    A line that is no completion is passed over: another command may be writing it.

    Args:
        run: the run directory; an earlier release's lie in its folder `steering`.
        most: prompts of a file, the first.

    Raises:
        InputError: a file cannot be read.
    """
    files = [file for folder in ("completions", "steering") for file in sorted((run / folder).glob("*.jsonl"))]
    rows = [row for file in files for row in _first(file, most)]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _first(file: Path, most: int) -> Iterator[tuple[Any, ...]]:
    prompts: set[int] = set()
    with open_regular(file) as lines:
        for line in islice(iter(lambda: lines.readline(LONGEST_LINE), b""), MOST_LINES):
            said = _completion(line)
            if said is None or (said["index"] not in prompts and len(prompts) == most):
                continue
            prompts.add(said["index"])
            if said["vector_from"]:
                yield tuple(said[column] for column in COLUMNS)


def _completion(line: bytes) -> dict[str, Any] | None:
    """The completion in a line; None where there is none."""
    try:
        said = parse_json(line)
        said = {"positions": "last", "vector_from": "", "vector_set": "", **said}
        texts = {name: said[name] for name in TEXTS}
        numbers = {"layer": int(said["layer"]), "strength": float(said["strength"]), "index": int(said["index"])}
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return {**texts, **numbers} if all(isinstance(text, str) for text in texts.values()) else None
