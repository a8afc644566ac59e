"""Paths in flags: an existing path is taken literally, whatever characters it holds."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path


def matching(pattern: str) -> list[str]:
    """Returns the paths of a glob, in no order; existing folders at its beginning are literal, brackets included."""
    if os.path.exists(pattern):
        return [pattern]
    literal, *rest = Path(pattern).parts
    while rest and (Path(literal) / rest[0]).is_dir():
        literal = str(Path(literal) / rest.pop(0))
    folder = glob.escape(literal) if os.path.isdir(literal) else literal
    return glob.glob(os.path.join(folder, *rest))


def whole(parts: Sequence[str]) -> list[str]:
    """Joins again those of a flag's comma-separated values that are pieces of one existing path."""
    values, at = [], 0
    while at < len(parts):
        ends = range(len(parts), at + 1, -1)
        # absl strips blanks around the commas of a flag.
        longer = [(end, glue.join(parts[at:end])) for end in ends for glue in (",", ", ")]
        at, value = next(((end, path) for end, path in longer if os.path.exists(path)), (at + 1, parts[at]))
        values.append(value)
    return values
