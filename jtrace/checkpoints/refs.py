"""References to checkpoints: what a `--checkpoints` spec names."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jtrace.errors import InputError

# Folder names that say "a checkpoint of my parent": step300, ckpt_010, checkpoint-500, stage1-step100-tokens4B, …
STEP_NAME = re.compile(
    r"(?:stage\d+-(?:ingredient\d+-)?)?(?:global_?)?(?:step|ckpt|checkpoint|iter)[-_]?(\d+)(?:\D.*)?"
)
TOKENS_IN_NAME = re.compile(r"tokens(\d+)([BMT])(?![A-Za-z0-9])")
TOKEN_UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class CheckpointRef:
    """One checkpoint: what it is called, and the folder that holds it.

    Attributes:
        model, revision: as in the tables; revision is empty for a folder that is not called like a step.
        path: the folder, resolved.
        step, tokens: of pre-training; None where the name does not tell.
    """

    model: str
    revision: str
    path: Path
    step: int | None = None
    tokens: int | None = None

    @property
    def name(self) -> str:
        """`model@revision`, or `model`; `/` is written `--`. Names the checkpoint's files in a run directory."""
        return (f"{self.model}@{self.revision}" if self.revision else self.model).replace("/", "--")


def parse_specs(specs: Sequence[str]) -> tuple[CheckpointRef, ...]:
    """All checkpoints that the specs name, in the order given, each once.

    Args:
        specs: values of --checkpoints; each may hold several, separated by `;`.

    Raises:
        InputError: nothing named, a spec that names nothing, or one name for two different folders.
    """
    parts = [part.strip() for spec in specs for part in spec.split(";") if part.strip()]
    if not parts:
        raise InputError("--checkpoints names nothing; give a folder, a glob of folders, or several separated by ';'")
    refs: dict[str, CheckpointRef] = {}
    for ref in (ref for part in parts for ref in parse_spec(part)):
        other = refs.setdefault(ref.name, ref)
        if other.path != ref.path:
            raise InputError(f"two checkpoints are called '{ref.name}': {other.path} and {ref.path}; rename a folder")
    return tuple(refs.values())


def parse_spec(spec: str) -> list[CheckpointRef]:
    """The checkpoints of one spec: a local Hugging Face folder, or a glob of them ordered by the number in the name.

    Raises:
        InputError: no folder of that name, or none of those found holds a config.json.
    """
    path = Path(spec)
    if glob.has_magic(spec) and not path.is_dir():
        found = [Path(path) for path in glob.glob(spec)]
        # A folder called like a step is one even if its files are not whole: it shall fail by name, not be passed over.
        folders = [p for p in found if p.is_dir() and (STEP_NAME.fullmatch(p.name) or (p / "config.json").is_file())]
        if not folders:
            what = f"{len(found)} entries without config.json" if found else f"nothing; {_nearest(path.parent)}"
            raise InputError(f"--checkpoints: '{spec}' matches {what}")
        return sorted(map(local_ref, folders), key=_order)
    if not path.is_dir():
        raise InputError(
            f"--checkpoints: '{spec}' is not a folder; {_nearest(path.parent)}. "
            "Hub ids and suites are not fetched yet: download first and name the folder"
        )
    if not (path / "config.json").is_file():
        raise InputError(f"--checkpoints: '{spec}' holds no config.json; {_nearest(path)}")
    return [local_ref(path)]


def local_ref(path: Path) -> CheckpointRef:
    """The reference that a local folder's name makes."""
    # Named as the user names it; a link's target tells the same files apart from others.
    path, target = Path(os.path.abspath(path)), path.resolve()
    match = STEP_NAME.fullmatch(path.name)
    model = path.name if match is None else path.parent.name
    if model.startswith(("_", ".")):
        raise InputError(f"--checkpoints: '{model}' begins with '{model[0]}', which hides its table; rename the folder")
    if match is None:
        return CheckpointRef(model, "", target)
    tokens = TOKENS_IN_NAME.search(path.name)
    return CheckpointRef(
        model,
        path.name,
        target,
        step=int(match[1]),
        tokens=int(tokens[1]) * TOKEN_UNITS[tokens[2]] if tokens else None,
    )


def _order(ref: CheckpointRef) -> tuple[str, list[int], str]:
    """By parent, then by the numbers in the name, so that step20 comes before step100."""
    return str(ref.path.parent), [int(number) for number in re.findall(r"\d+", ref.path.name)], ref.path.name


def _nearest(folder: Path, most: int = 5) -> str:
    """What an existing folder holds, for a message."""
    if not folder.is_dir():
        return f"'{folder}' does not exist"
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    listed = ", ".join(names[:most]) + (", …" if len(names) > most else "")
    return f"folders in '{folder}': {listed or 'none'}"
