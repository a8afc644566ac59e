"""Texts of a run's statements, which it does not keep: read anew where they come from, if they are the same still."""

from collections.abc import Mapping
from typing import Any

from jtrace.data.loading import read_all
from jtrace.data.registry import WORLD
from jtrace.data.statement_files import read_file
from jtrace.data.statements import Statements
from jtrace.errors import InputError


def read_texts(record: Mapping[str, Any], dataset: str) -> Statements | None:
    """Reads a set from the source that a run's record names; nothing is downloaded.

    Args:
        record: as in run.json.
        dataset: name of the set.

    Returns:
        None where the source is not on this machine, or its content is another than what was traced.
    """
    source = record.get("sets", {}).get(dataset, {}).get("source")
    if not source:
        return None
    try:
        statements = _read(dataset, source)
    except InputError:
        return None
    return statements if statements.fingerprint == record["data"].get(dataset) else None


def _read(dataset: str, source: str) -> Statements:
    world, _, seed = source.partition(":")
    if dataset in WORLD and world == "world":
        return read_all([f"{dataset}:seed={seed}"])[0]
    return read_file(dataset, source)
