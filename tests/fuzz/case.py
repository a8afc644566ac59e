"""A case: a damaged file, read. Either it is taken, or refused in one line; anything else is a fault."""

import os
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import FrameType
from typing import Literal

from jtrace.errors import InputError
from tests.fuzz.inputs import Kind
from tests.fuzz.mutations import damaged_bytes

LONGEST = 1000  # characters of a refusal
SECONDS = 30
MEMORY_BYTES = 512 << 20  # that a case may add to what this process holds
SENTINEL = "executed.txt"  # what a payload writes
Ended = Literal["taken", "refused", "fault"]


class TooLongError(BaseException):
    """A case takes too long."""


@dataclass(frozen=True)
class Outcome:
    """How a case ended, what there is to say of a fault, and what it took.

    Attributes:
        memory_bytes: the most that this process held meanwhile, all else in it included.
    """

    ended: Ended
    said: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0


@dataclass
class Place:
    """A folder for cases, and what must stay as it is beside it.

    Attributes:
        root: an empty folder; the working directory is one in it meanwhile.
    """

    root: Path

    def __post_init__(self) -> None:
        for name in ("case", "beside", "work"):
            (self.root / name).mkdir()
        (self.root / "beside" / "kept").write_text("kept")

    def paths(self) -> list[str]:
        """All that lies in the folder, by paths from it."""
        start = len(str(self.root)) + 1
        walk = os.walk(self.root)
        return [f"{at}/{name}"[start:] for at, folders, files in walk for name in (*folders, *files)]


KEPT = {"case", "beside", "beside/kept", "work"}


def damaged(kind: Kind, name: str, seed: int, number: int) -> bytes:
    """The file of a case; the same for the same arguments. Number 0 is sound.

    Most are damaged more than once: a small file has few ways to be damaged once, which many cases would repeat.
    """
    random = Random(f"{seed}:{name}:{number}")
    if number == 0:
        return kind.content
    content = kind.content
    for _ in range(random.choice((1, 1, 2, 2, 3, 4))):
        try:
            content = kind.damage(content, random)
        except Exception:  # it cannot be told apart into its parts any more, or is none that its format can have
            content = damaged_bytes(content, random)
    return content


def run_case(kind: Kind, content: bytes, place: Place) -> Outcome:
    """Write a damaged file and what lies beside a sound one, and read it."""
    folder = place.root / "case"
    shutil.rmtree(folder)
    for name, other in (*kind.others.items(), (kind.file, content)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(other)
    _forget_peak()
    before, started = _peak(), time.monotonic()
    outcome = _outcome(kind, folder)
    seconds, most, paths = time.monotonic() - started, _peak(), place.paths()
    if outcome.ended != "fault":
        if seconds > SECONDS:
            outcome = Outcome("fault", f"took {seconds:.0f} s")
        elif most - before > MEMORY_BYTES:
            outcome = Outcome("fault", f"took {(most - before) >> 20} MiB")
        elif strays := sorted(path for path in paths if path not in KEPT and not path.startswith("case/")):
            outcome = Outcome("fault", f"wrote {strays}")
        elif any(Path(path).name == SENTINEL for path in paths):
            outcome = Outcome("fault", "was executed")
    return replace(outcome, seconds=seconds, memory_bytes=most)


def _outcome(kind: Kind, folder: Path) -> Outcome:
    try:
        with _alarm():
            kind.read(folder)
        return Outcome("taken")
    except InputError as error:
        said = str(error)
        if not said.isprintable() or len(said) >= LONGEST:
            return Outcome("fault", f"said more than a line: {said!r}")
        if kind.named and str(folder) not in said:
            return Outcome("fault", f"does not name its file: {said}")
        return Outcome("refused", said)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        at = "".join(traceback.format_exception(error)[-6:])
        return Outcome("fault", f"{type(error).__name__}: {str(error)[:300]}\n{at[-3000:]}")


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Where a payload would write by a relative name."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(before)


def _forget_peak() -> None:
    """Have `_peak` count from here, so that memory of earlier cases hides none of this one's."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
