"""What a pre-training run of jtrace's own leaves: its record, its log, and one Orbax checkpoint per kept step."""

import json
import re
from pathlib import Path
from typing import Any

RECORD = "pretrain.json"
LOG = "log.jsonl"
KEPT_NAME = re.compile(r"step(\d{6,})")


def is_run(folder: Path) -> bool:
    """Whether a folder is a pre-training run rather than a checkpoint."""
    return (folder / RECORD).is_file()


def kept_path(run: Path, step: int) -> Path:
    """Where a kept step lies; a folder that is there is whole."""
    return run / f"step{step:06d}"


def kept_steps(run: Path) -> dict[int, Path]:
    """All kept steps that are there, in order."""
    found = ((KEPT_NAME.fullmatch(child.name), child) for child in run.iterdir() if child.is_dir())
    return dict(sorted((int(match[1]), child) for match, child in found if match))


def read_log(run: Path) -> list[dict[str, Any]]:
    """The log's whole lines, one per step; a last line cut off by a kill is not one."""
    try:
        lines = (run / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def tokens_by_step(run: Path) -> dict[int, int]:
    """How many tokens had been seen after each step, padding not counted."""
    return {line["step"]: line["tokens"] for line in read_log(run)}
