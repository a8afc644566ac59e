"""Names of the invented world on the command line: `world`, `world:seed=1:people=48`.

A dash names a part of it: a statement set (`world-fairness`), or its conversations (`world-chat`).
"""

import re
from pathlib import Path
from typing import Any, get_type_hints

from jtrace.data.world.entities import WorldConfig
from jtrace.errors import InputError

_SPEC = re.compile(r"world(-[a-z]+)?(:.*)?")
_FIELDS: dict[str, Any] = get_type_hints(WorldConfig)


def names_world(spec: str) -> bool:
    """Returns whether an entry of --statements or --text names the world or a part; a file of that name wins."""
    return _SPEC.fullmatch(spec) is not None and not Path(spec).exists()


def parse_world(spec: str) -> tuple[str, WorldConfig]:
    """Reads the part that a spec names, empty for the whole, and the world's configuration.

    Args:
        spec: `world[-PART][:FIELD=VALUE]…`; fields of `WorldConfig` that are left out have their defaults.

    Raises:
        InputError: a field is unknown, or its value is invalid.
    """
    head, *items = spec.split(":")
    values: dict[str, Any] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or name not in _FIELDS:
            raise InputError(f"'{spec}': '{item}' sets nothing of a world; write FIELD=VALUE of {', '.join(_FIELDS)}")
        try:
            values[name] = _FIELDS[name](value)
        except ValueError:
            raise InputError(f"'{spec}': '{value}' is no {_FIELDS[name].__name__} for {name}") from None
    return head.partition("-")[2], WorldConfig(**values)
