"""Paths that a person names: what exists is taken as it is, whatever characters its name holds."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path


def matching(pattern: str) -> list[str]:
    """What a glob names, in no order; folders at its beginning that exist are literal, brackets and all."""
    if os.path.exists(pattern):
        return [pattern]
    literal, *rest = Path(pattern).parts
    while rest and (Path(literal) / rest[0]).is_dir():
        literal = str(Path(literal) / rest.pop(0))
    folder = glob.escape(literal) if os.path.isdir(literal) else literal
    return glob.glob(os.path.join(folder, *rest))


def whole(parts: Sequence[str]) -> list[str]:
    """The values of a flag that commas separate, where those that are pieces of an existing path are one again."""
    found, at = [], 0
    while at < len(parts):
        ends = range(len(parts), at + 1, -1)
        # Flags are stripped of the blanks around their commas.
        longer = [(end, glue.join(parts[at:end])) for end in ends for glue in (",", ", ")]
        at, value = next(((end, path) for end, path in longer if os.path.exists(path)), (at + 1, parts[at]))
        found.append(value)
    return found
