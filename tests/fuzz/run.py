"""Read damaged files by the thousand, on all cores:

    python -m tests.fuzz.run --cases=1000000 --seed=0

Prints a table by kind of input, also where SIGINT ends it, and keeps the file of each fault, with what it raised, under
--out. The status is 1 where there is one. The same seed gives the same cases, whatever the number of processes.
"""

import argparse
import logging
import math
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from jtrace.errors import InputError
from jtrace.runtime.foreign import STANDARD_ERROR
from tests.fuzz.case import LONGEST, Place, damaged, run_case, working_in
from tests.fuzz.inputs import make_kinds

LONGEST_NAME = 80  # of a kind and a case of it
CHUNK = 100  # cases that a process is given at once
MEMORY_BYTES = 8 << 30  # of address space, beside what is mapped at start
IN_MEMORY = Path("/dev/shm")  # where files take a tenth of the time that they take on a disk
Chunk = tuple[str, int, int]

_state: dict[str, Any] = {}


@dataclass
class Tally:
    """Cases of a kind, counted.

    Attributes:
        ended: how many, by how they ended.
        digests: of the damaged files; some are drawn more than once.
        seconds: in all, for what reads the files.
        longest: seconds of one case.
        memory_bytes: the most that a process held, or one that it started.
        faults: number, content and words of each.
    """

    ended: Counter[str] = field(default_factory=Counter)
    digests: set[bytes] = field(default_factory=set)
    seconds: float = 0.0
    longest: float = 0.0
    memory_bytes: int = 0
    faults: list[tuple[int, bytes, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Add what was counted elsewhere, but for the faults themselves."""
        self.ended += other.ended
        self.digests |= other.digests
        self.seconds += other.seconds
        self.longest = max(self.longest, other.longest)
        self.memory_bytes = max(self.memory_bytes, other.memory_bytes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="in all, shared out over the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="a regular expression of their names; all if empty")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="where files of faults are kept")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
    if IN_MEMORY.is_dir() and "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = tempfile.tempdir = str(IN_MEMORY)
    with tempfile.TemporaryDirectory(prefix="jtrace-fuzz-") as place:
        return _run(asked, Path(place))


def _run(asked: argparse.Namespace, place: Path) -> int:
    with tempfile.TemporaryDirectory() as sound:
        shares = {name: kind.share for name, kind in make_kinds(Path(sound)).items() if re.search(asked.kinds, name)}
    cases = {name: math.ceil(share * asked.cases / sum(shares.values())) for name, share in shares.items()}
    started, tallies = time.monotonic(), {name: Tally() for name in cases}
    asked.out.mkdir(parents=True, exist_ok=True)
    context, broken = multiprocessing.get_context("spawn"), False
    with ProcessPoolExecutor(asked.processes, context, _begin, (asked.seed, place)) as pool:
        try:
            for name, tally in pool.map(_run_chunk, _chunks(cases)):
                tallies[name].add(tally)
                for number, content, said in tally.faults:
                    _keep(
                        asked.out / f"{name.replace(' ', '-').replace('/', '-')}-{asked.seed}-{number}", content, said
                    )
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
        except BrokenProcessPool:
            broken = True
            print("a process ended at one of: " + ", ".join(path.read_text().strip() for path in place.glob("at-*")))
    _print_table(tallies, time.monotonic() - started)
    return 1 if broken or any(tally.ended["fault"] for tally in tallies.values()) else 0


def _chunks(cases: dict[str, int]) -> Iterator[Chunk]:
    for first in range(0, max(cases.values(), default=0), CHUNK):
        for name, count in cases.items():
            if first < count:
                yield name, first, min(count, first + CHUNK)


def _begin(seed: int, place: Path) -> None:
    """Make sound files and a place for damaged ones, keep what is printed, and bound this process's memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process takes it
    warnings.simplefilter("ignore")  # of zip files with two records of one name
    root = Path(tempfile.mkdtemp(dir=place))
    (root / "sound").mkdir()
    (root / "cases").mkdir()
    _state.update(kinds=make_kinds(root / "sound"), place=Place(root / "cases"), seed=seed)
    _state["at"] = os.open(place / f"at-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    with open(place / f"printed-{os.getpid()}", "w") as file:
        os.dup2(file.fileno(), STANDARD_ERROR)
    logging.basicConfig()
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))


def _run_chunk(chunk: Chunk) -> tuple[str, Tally]:
    name, first, last = chunk
    kind, place, tally = _state["kinds"][name], _state["place"], Tally()
    with working_in(place.root / "work"):
        for number in range(first, last):
            content = damaged(kind, name, _state["seed"], number)
            os.pwrite(_state["at"], f"{name} {number}".ljust(LONGEST_NAME).encode(), 0)
            outcome = run_case(kind, content, place)
            if (printed := _printed()) and outcome.ended != "fault":
                outcome = replace(outcome, ended="fault", said=f"it, or a case before it, printed:\n{printed}")
            if number == 0 and outcome.ended == "refused":
                outcome = replace(outcome, ended="fault", said=f"a sound file is refused: {outcome.said}")
            tally.ended[outcome.ended] += 1
            tally.digests.add(blake2b(content, digest_size=8).digest())
            tally.seconds += outcome.seconds
            tally.longest = max(tally.longest, outcome.seconds)
            tally.memory_bytes = max(tally.memory_bytes, outcome.memory_bytes)
            if outcome.ended == "fault":
                tally.faults.append((number, content, outcome.said))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    tally.memory_bytes = max(tally.memory_bytes, children)
    return name, tally


def _printed() -> str:
    """The text written to standard error since the last call, but for lines that jtrace logs."""
    if not (size := os.fstat(STANDARD_ERROR).st_size):
        return ""
    with open(f"/proc/self/fd/{STANDARD_ERROR}", errors="replace") as file:
        printed = file.read(min(size, 3000))
    os.ftruncate(STANDARD_ERROR, 0)
    os.lseek(STANDARD_ERROR, 0, os.SEEK_SET)
    return "".join(
        line for line in printed.splitlines(keepends=True) if not _is_line_of_jtrace(line.removesuffix("\n"))
    )


def _is_line_of_jtrace(line: str) -> bool:
    return line.startswith("WARNING:jtrace.") and line.isprintable() and len(line) < LONGEST


def _keep(path: Path, content: bytes, said: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_name(f"{path.name}.txt").write_text(said)


def _print_table(tallies: dict[str, Tally], seconds: float) -> None:
    width = max(map(len, tallies), default=4) + 2
    heads = ("cases", "different", "refused", "taken", "faults", "ms a case", "longest ms")
    print(f"{'kind':{width}}" + "".join(f"{head:>11}" for head in heads))
    total = Tally()
    for name, tally in [*tallies.items(), ("all", total)]:
        ended, cases = tally.ended, tally.ended.total()
        counts = (cases, len(tally.digests), ended["refused"], ended["taken"], ended["fault"])
        print(
            f"{name:{width}}{''.join(f'{count:11}' for count in counts)}"
            f"{1e3 * tally.seconds / max(cases, 1):11.1f}{1e3 * tally.longest:11.0f}"
        )
        if name != "all":
            total.add(tally)
    print(f"{seconds:.0f} s, {total.ended.total() / max(seconds, 1e-9):.0f} cases a second")
    print(f"the most memory that a process held: {total.memory_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
