"""The files of a pre-training run of jtrace: record, log, and one Orbax checkpoint per kept step."""

import re
from pathlib import Path
from typing import Any

from jtrace.errors import InputError
from jtrace.runtime.small_files import MissingFileError, parse_json, read_text

RECORD = "pretrain.json"
LOG = "log.jsonl"
LARGEST_LOG = 1 << 30  # bytes; a step takes a hundred
KEPT_NAME = re.compile(r"step(\d{6,})")


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a pre-training run rather than a checkpoint."""
    return (folder / RECORD).is_file()


def kept_path(run: Path, step: int) -> Path:
    """Returns the folder of a kept step; if it exists, it is complete."""
    return run / f"step{step:06d}"


def kept_steps(run: Path) -> dict[int, Path]:
    """Lists all kept steps, in order."""
    matches = ((KEPT_NAME.fullmatch(child.name), child) for child in run.iterdir() if child.is_dir())
    return dict(sorted((int(match[1]), child) for match, child in matches if match))


def read_log(run: Path) -> list[dict[str, Any]]:
    """Reads the complete lines of the log, one per step; a last line cut off by a kill is left out.

    Raises:
        InputError: it cannot be read, or a line is damaged.
    """
    path, remedy = run / LOG, "delete the folder to begin anew"
    try:
        lines = read_text(path, LARGEST_LOG, remedy).splitlines(keepends=True)
    except MissingFileError:
        return []
    steps = []
    for number, line in enumerate(lines, 1):
        if line.endswith("\n"):
            try:
                match value := parse_json(line):
                    case {"step": int(), "tokens": int()}:
                        steps.append(value)
                    case _:
                        raise ValueError("an object with step and tokens is needed")
            except ValueError as error:
                raise InputError(f"{path}, line {number}: damaged ({error}); {remedy}") from None
    return steps


def tokens_by_step(run: Path) -> dict[int, int]:
    """Returns the number of tokens seen after each step, without padding."""
    return {line["step"]: line["tokens"] for line in read_log(run)}
