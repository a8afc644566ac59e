"""Records of runs: JSON objects that say what was run and on what; read, written and compared here alone."""

import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jtrace.errors import InputError
from jtrace.runs.record_check import is_record
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.small_files import read_json


class Difference(NamedTuple):
    """A key whose values differ in two configurations; None where one of them lacks it."""

    key: str
    earlier: Any
    wanted: Any


def differences(earlier: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Difference]:
    """All keys that differ, in alphabetical order."""
    pairs = [Difference(key, earlier.get(key), wanted.get(key)) for key in sorted(earlier.keys() | wanted.keys())]
    return [pair for pair in pairs if pair.earlier != pair.wanted]


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all.

    Raises:
        WriteError: the disk is full, read-only or gone.
    """
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_run_record(path: Path) -> dict[str, Any] | None:
    """The record of a run.json; None where there is none, or another kind of file."""
    try:
        record = read_json(path)
    except InputError:
        return None
    return record if isinstance(record, dict) and is_record(record) else None


def is_new(folder: Path) -> bool:
    """Tell whether a run may begin in a folder; a killed process may have left hidden files, which do not count."""
    return not folder.exists() or (folder.is_dir() and not holds_visible(folder))


def holds_visible(folder: Path) -> bool:
    """Tell whether a folder holds anything that is not hidden."""
    return any(not child.name.startswith(".") for child in folder.iterdir())


def circumstances(packages: Iterable[str], devices: int) -> dict[str, Any]:
    """Device and versions of a command: they decide nothing but the last bits of a number.

    Raises:
        RuntimeError: JAX finds no device.
    """
    return {
        "device": {"platform": jax.default_backend(), "kind": jax.devices()[0].device_kind, "count": devices},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
