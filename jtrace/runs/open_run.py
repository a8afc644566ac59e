"""Opening a run directory: a new one, or one that was made with the same settings; what ran is told in run.json."""

import json
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from jtrace.errors import InputError
from jtrace.runs.record_files import circumstances, differences, is_new, read_run_record, write_record
from jtrace.runs.run_directory import RECORD, RunDirectory
from jtrace.runtime.atomic import sweep_up
from jtrace.runtime.locks import LOCKS, alone, is_used

PACKAGES = ("jtrace", "jax", "jaxlib", "flax", "transformers", "tokenizers", "numpy", "safetensors")


def open_run(
    path: Path,
    config: Mapping[str, Any],
    data: Mapping[str, str],
    checkpoints: Sequence[str],
    sets: Mapping[str, Mapping[str, Any]] | None = None,
    hold: ExitStack | None = None,
) -> RunDirectory:
    """Make a run directory, or take up an earlier one of the same configuration.

    Args:
        config: what decides the numbers, beside the checkpoints; JSON values.
        data: fingerprint of each statement set.
        checkpoints: names; added to those of earlier commands.
        sets: what a reader wants to know of each statement set; JSON values.
        hold: keeps other commands from giving the run another configuration until it is closed.

    Raises:
        InputError: the directory cannot be written, is not a run, or is a run of another configuration or other data.
    """
    if "__metadata__" in data:
        raise InputError("a statement set cannot be called __metadata__; rename its file")
    run, now = RunDirectory(path), _circumstances(checkpoints)
    try:
        _earlier(path, config, data)  # before anything is written
        (path / LOCKS).mkdir(parents=True, exist_ok=True)
        with alone(run.lock("record")):
            used = is_used(run.lock("run"))
            if not used:  # processes of other containers cannot be told from dead ones
                sweep_up(path)
            earlier = _earlier(path, config, data, used)
            run.failures()
            known = earlier["checkpoints"] if earlier else []
            record = {
                "id": (earlier or {}).get("id") or secrets.token_hex(8),
                "config": dict(config),
                "data": dict(data),
                "sets": {name: dict(about) for name, about in (sets or {}).items()},
                "checkpoints": known + [name for name in checkpoints if name not in known],
                "commands": [*(earlier["commands"] if earlier else []), now],
            }
            if earlier and "steering_commands" in earlier:
                record["steering_commands"] = earlier["steering_commands"]
            write_record(path / RECORD, record)
            for folder in ("metrics", "vectors", "figures"):
                (path / folder).mkdir(exist_ok=True)
            if hold is not None:
                hold.enter_context(run.in_use())
    except OSError as error:
        raise InputError(
            f"--out={path}: cannot be written ({error.strerror or error}); choose another folder"
        ) from None
    return run


def _earlier(
    path: Path, config: Mapping[str, Any], data: Mapping[str, str], used: bool = False
) -> dict[str, Any] | None:
    """What run.json says of a run directory that is to be taken up; None of a new one.

    Args:
        used: whether another command is at work on it.

    Raises:
        InputError: it is not a run, or a run of another configuration or other data.
    """
    earlier = None if is_new(path) else _read_record(path / RECORD)
    # A run that has traced nothing yet, and is not about to, binds nobody.
    if earlier and (used or any(RunDirectory(path).tables())):
        _refuse_difference(path / RECORD, "", earlier["config"], config)
        _refuse_difference(path / RECORD, "data of ", earlier["data"], data)
    return earlier


def check_steering_out(path: Path) -> dict[str, Any]:
    """Record of a run directory to steer in, or the one that a directory that is not there yet will begin with.

    Raises:
        InputError: it holds other files.
    """
    if not is_new(path):
        return _read_record(path / RECORD)
    return {"config": {}, "data": {}, "sets": {}, "checkpoints": [], "commands": []}


def open_steering(path: Path, target: str) -> RunDirectory:
    """A run directory to steer in: one that was traced, or a new one. What was run is added to its record.

    Raises:
        InputError: the directory cannot be written, or is not a run.
    """
    run, now = RunDirectory(path), _circumstances([target])
    check_steering_out(path)
    try:
        (path / LOCKS).mkdir(parents=True, exist_ok=True)
        with alone(run.lock("record")):
            record = check_steering_out(path)
            record["steering_commands"] = [*record.get("steering_commands", ()), now]
            write_record(path / RECORD, record)
            for folder in ("steering", "figures"):
                (path / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out={path}: cannot be written ({error.strerror or error}); choose another folder"
        ) from None
    return run


def _circumstances(checkpoints: Sequence[str]) -> dict[str, Any]:
    """When a command ran, on what, and for which checkpoints."""
    try:
        where = circumstances(PACKAGES, jax.device_count())
    except RuntimeError as error:
        raise InputError(f"JAX finds no device: {' '.join(str(error).split())}; check JAX_PLATFORMS") from None
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "checkpoints": list(checkpoints),
        **where,
    }


def _read_record(path: Path) -> dict[str, Any]:
    record = read_run_record(path)
    if record is None:
        raise InputError(
            f"--out={path.parent}: holds other files and no readable run.json; choose a new or empty folder"
        )
    return record


def _refuse_difference(where: Path, what: str, earlier: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for key, was, is_wanted in differences(earlier, wanted):
        raise InputError(
            f"{where}: {what}{key} was {_short(was)} in this run and is {_short(is_wanted)} now; "
            "take another --out, or the same settings"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
