"""The form that a run.json must have before it is read, by the report or by a command that goes on with the run."""

import re
from collections.abc import Mapping
from typing import Any

IDENTITY = re.compile("[0-9a-f]{16}")
COUNTS, WORDS = ("rows", "label_one_rows"), ("source", "dimension", "label_one")


def is_record(record: Mapping[str, Any]) -> bool:
    """Fields that releases have added since the first may be absent, and any others may be there."""
    checkpoints, sets = record.get("checkpoints"), record.get("sets", {})
    return (
        isinstance(record.get("config"), dict)
        and isinstance(record.get("data"), dict)
        and _are_texts(checkpoints)
        and _are_commands(record.get("commands"))
        and _are_commands(record.get("steering_commands", []))
        and isinstance(sets, dict)
        and all(map(_is_about_a_set, sets.values()))
        and _is_identity(record.get("id"))
    )


def _is_identity(value: object) -> bool:
    """It is a folder's name in the cache of downloads."""
    return value is None or (isinstance(value, str) and IDENTITY.fullmatch(value) is not None)


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _are_commands(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, dict)
        and _is_none_or_text(value.get("time"))
        and _is_none_or_text(value.get("command"))
        and _are_texts(value.get("checkpoints", []))
        and isinstance(value.get("device", {}), dict)
        and isinstance(value.get("versions", {}), dict)
        for value in values
    )


def _is_about_a_set(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(type(value.get(name, 0)) is int and 0 <= value.get(name, 0) < 1 << 53 for name in COUNTS)
        and all(_is_none_or_text(value.get(name)) for name in WORDS)
        and _are_texts(value.get("odd", []))
    )


def _is_none_or_text(value: object) -> bool:
    return value is None or isinstance(value, str)
