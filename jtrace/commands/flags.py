"""Values of flags: text → what commands work with."""

import math
import re
from collections.abc import Sequence
from typing import cast

from jtrace.errors import InputError
from jtrace.probing.protocols import PROTOCOLS, Protocol

MOST_LAYERS = 10_000
KEPT = re.compile(r"(\d+)(?:-(\d+)(?:/(\d+))?)?", re.ASCII)


def parse_layers(text: str, flag: str = "--layers") -> tuple[int, ...] | None:
    """`all`, or numbers and ranges: `0,6,12-18`. None stands for all.

    Raises:
        InputError: anything else.
    """
    if text == "all":
        return None
    layers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise InputError(f"{flag}={text}: '{part}' is not a layer; give all, or numbers and ranges as 0,6,12-18")
        if int(last or first) >= MOST_LAYERS:
            raise InputError(f"{flag}={text}: '{part}' is beyond any model's layers")
        layers |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(layers))


def parse_layer_groups(text: str) -> tuple[tuple[int, ...], ...] | None:
    """Layers, or groups of layers that are steered at once, as `10+15`; else as `parse_layers`. None stands for all.

    Raises:
        InputError: anything else.
    """
    if text == "all":
        return None
    groups: list[tuple[int, ...]] = []
    for part in text.split(","):
        several = [parse_layers(one) for one in part.split("+")]
        if None in several:
            raise InputError(f"--layers={text}: all stands by itself; give all, or numbers and ranges as 0,6,12-18")
        layers = sorted({layer for one in several for layer in one or ()})
        groups += [tuple(layers)] if "+" in part else [(layer,) for layer in layers]
    return tuple(dict.fromkeys(groups))


def parse_vector_layers(text: str) -> tuple[int | None, ...] | None:
    """The layer of each row, in order: numbers, ranges, and `embedding` (None) for a row of no layer; empty is None.

    Raises:
        InputError: anything else, or a layer named twice.
    """
    if not text:
        return None
    rows: list[int | None] = []
    for part in (part.strip() for part in text.split(",")):
        named = (None,) if part == "embedding" else parse_layers(part, "--vector_layers")
        if named is None or not set(rows).isdisjoint(named):
            raise InputError(
                f"--vector_layers={text}: name each row's layer, once, as 15 or embedding,0-29, but not '{part}'"
            )
        rows += named
    return tuple(rows)


def parse_strengths(texts: Sequence[str]) -> tuple[float, ...]:
    """Strengths, each once.

    Raises:
        InputError: none, or one that is no finite number.
    """
    strengths = []
    for text in texts:
        try:
            strengths.append(float(text) + 0.0)  # minus zero is zero
        except ValueError:
            raise InputError(f"--strengths: '{text}' is no number; give numbers as -2,-1,0,1,2") from None
    if not strengths or not all(map(math.isfinite, strengths)):
        raise InputError(f"--strengths={','.join(texts)}: give finite numbers, as -2,-1,0,1,2")
    return tuple(dict.fromkeys(strengths))


def parse_keep(text: str, steps: int) -> tuple[int, ...]:
    """Steps to keep, items separated by commas: `log` (0, the powers of two, the last), `A`, `A-B`, `A-B/S`.

    The last step is always kept.

    Raises:
        InputError: an item is none of these, or lies beyond the last step.
    """
    kept = {steps}
    for item in (part.strip() for part in text.split(",") if part.strip()):
        match = KEPT.fullmatch(item)
        if item == "log":
            kept |= {0, *(2**i for i in range(steps.bit_length()) if 2**i < steps)}
        elif match is None or match[3] == "0":
            raise InputError(
                f"--keep={text}: '{item}' is no step; give log, numbers, ranges A-B, or A-B/S with a stride"
            )
        else:
            first, last = int(match[1]), int(match[2] or match[1])
            if not first <= last <= steps:
                raise InputError(f"--keep={text}: '{item}' does not lie in 0 to {steps}, the steps of this training")
            kept |= set(range(first, last + 1, int(match[3] or 1)))
    return tuple(sorted(kept))


def parse_protocols(names: Sequence[str]) -> tuple[Protocol, ...]:
    """Protocols, each once.

    Raises:
        InputError: none, or one that is not known.
    """
    if not names or not set(names) <= set(PROTOCOLS):
        raise InputError(f"--protocol={','.join(names)}: known are {', '.join(PROTOCOLS)}")
    return tuple(dict.fromkeys(cast(Sequence[Protocol], names)))
