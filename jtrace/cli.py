"""The rim that all launch scripts share: flags in, one line out when something is wrong."""

import logging
import math
import re
import sys
from collections.abc import Callable, Sequence

from absl import app
from absl import logging as absl_logging

from jtrace.errors import InputError

MOST_LAYERS = 10_000
KEPT = re.compile(r"(\d+)(?:-(\d+)(?:/(\d+))?)?", re.ASCII)


def run(main: Callable[[], int]) -> None:
    """Parse flags, call `main` and exit with its status; bad input is one line on stderr and status 1."""

    def guarded(argv: list[str]) -> int:
        # JAX reports every backend that it did not find.
        absl_logging.set_verbosity(absl_logging.WARNING)
        # Its faults arrive as errors; each attempt need not be told beside them.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            if len(argv) > 1:
                raise InputError(f"'{argv[1]}' is not a flag; write --flag=value, and see --help")
            return main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            print(f"error: {error.filename or ''}: {error.strerror or error}".replace(": :", ":"), file=sys.stderr)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on with what is missing", file=sys.stderr)
            return 130
        return 1

    app.run(guarded)


def parse_layers(text: str) -> tuple[int, ...] | None:
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
            raise InputError(f"--layers={text}: '{part}' is not a layer; give all, or numbers and ranges as 0,6,12-18")
        if int(last or first) >= MOST_LAYERS:
            raise InputError(f"--layers={text}: '{part}' is beyond any model's layers")
        layers |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(layers))


def parse_layer_groups(text: str) -> tuple[tuple[int, ...], ...] | None:
    """As `parse_layers`, where an item may also be layers that are steered at once, as `10+15`. None stands for all.

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
