"""The rim that all launch scripts share: flags in, one line out when something is wrong."""

import logging
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

import jax
from absl import app
from absl import logging as absl_logging

from jtrace.errors import InputError, Terminated
from jtrace.runtime.compilation import use_cache
from jtrace.runtime.console import speak_without_fail
from jtrace.runtime.distributed import leave, wait_for_all
from jtrace.runtime.prefetch import Ahead
from jtrace.runtime.progress import told

MOST_LAYERS = 10_000
RESEND_SECONDS = 0.05
KEPT = re.compile(r"(\d+)(?:-(\d+)(?:/(\d+))?)?", re.ASCII)


def run(main: Callable[..., int], words: bool = False) -> None:
    """Parse flags, call `main` and exit with its status.

    With `words`, `main` is given what stands beside the flags, a list of strings; else there may be nothing there.

    Bad input is one line on stderr and status 1. Ctrl-C and SIGTERM end `main` by KeyboardInterrupt, with status 130
    and 143; a second one ends the process at once. Compiled programs are kept, see `jtrace.runtime.compilation`.
    One of several processes waits for the others at its end, unless it ends for one of these reasons. Where standard
    output or error cannot be written, what is printed is dropped, and the status tells of the work all the same.
    """

    def guarded(argv: list[str]) -> int:
        # JAX reports every backend that it did not find.
        absl_logging.set_verbosity(absl_logging.WARNING)
        # Its faults arrive as errors; each attempt need not be told beside them.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        status, stopped = 1, False
        try:
            _stop_on_signals()
            if len(argv) > 1 and not words:
                raise InputError(f"'{argv[1]}' is not a flag; write --flag=value, and see --help")
            _keep_the_host()
            use_cache()
            with told():
                status = main(argv[1:]) if words else main()
                wait_for_all("end")
            return status
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            print(f"error: {error.filename or ''}: {error.strerror or error}".replace(": :", ":"), file=sys.stderr)
        except KeyboardInterrupt as error:
            ended, status = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
            print(f"{ended}; the same command goes on with what is missing", file=sys.stderr)
            stopped = True
        leave(status)
        if stopped or any(isinstance(thread, Ahead) for thread in threading.enumerate()):
            # Devices or threads are still at work in C++; the end of the interpreter would abort them with a page of
            # messages, or crash.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status

    speak_without_fail()
    app.run(guarded)


def _keep_the_host() -> None:
    """Checkpoints are read into the host's memory while an accelerator works, so JAX needs the CPU beside it."""
    platforms = jax.config.values["jax_platforms"]
    if platforms and "cpu" not in platforms.split(","):
        jax.config.update("jax_platforms", f"{platforms},cpu")


def check_device() -> None:
    """Ask JAX for its device, in a command that computes and after `jax.distributed` has begun.

    Raises:
        InputError: the first of JAX_PLATFORMS is not there, which JAX would pass over for the CPU, or there is none.
    """
    asked = (jax.config.values["jax_platforms"] or "").split(",")[0]
    try:
        found, reason = jax.default_backend(), "no such device, or no JAX for it"
    except RuntimeError as error:
        found, reason = "", " ".join(str(error).split()).partition(" (set JAX")[0]
    if not found or (found == "cpu" and asked not in ("", "cpu")):
        raise InputError(
            f"JAX_PLATFORMS={asked}: not found ({reason}); unset it to compute on what is there, or install "
            "jtrace with the extra cuda or tpu"
        )


def _stop_on_signals() -> None:
    """Let the first of SIGINT and SIGTERM raise KeyboardInterrupt or `Terminated`, the next end the process."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        os._exit(128 + number)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in heeded:
            signal.signal(each, end)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def again(fault: "sys.UnraisableHookArgs") -> None:
        # A signal that comes while Python collects garbage raises where nothing can be raised.
        if not issubclass(fault.exc_type, KeyboardInterrupt):
            return sys.__unraisablehook__(fault)
        for each in heeded:
            signal.signal(each, stop)
        number = signal.SIGTERM if issubclass(fault.exc_type, Terminated) else signal.SIGINT
        threading.Timer(RESEND_SECONDS, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = again
    # nohup and a shell's background ignore what their processes shall not see.
    heeded = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
    for each in heeded:
        signal.signal(each, stop)


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
