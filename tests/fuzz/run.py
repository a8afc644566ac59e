"""Read damaged files by the thousand, on all cores:

    python -m tests.fuzz.run --cases=1000000 --seed=0

Prints a table by kind of input, and keeps the file of each fault, with what it raised, under --out. The status is 1
where there is one. The same seed gives the same cases, whatever the number of processes.
"""

import argparse
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from jtrace.errors import InputError
from tests.fuzz.case import Place, damaged, run_case, working_in
from tests.fuzz.inputs import make_kinds

CHUNK = 100  # cases that a process is given at once
MEMORY_BYTES = 8 << 30  # of address space, beside what is mapped at start
Chunk = tuple[str, int, int]
Found = tuple[str, Counter[str], list[tuple[int, bytes, str]]]

_state: dict[str, Any] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="in all, shared out over the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="a regular expression of their names; all if empty")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="where files of faults are kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jtrace-fuzz-") as place:
        return _run(asked, Path(place))


def _run(asked: argparse.Namespace, place: Path) -> int:
    with tempfile.TemporaryDirectory() as sound:
        shares = {name: kind.share for name, kind in make_kinds(Path(sound)).items() if re.search(asked.kinds, name)}
    cases = {name: max(1, int(share * asked.cases / sum(shares.values()))) for name, share in shares.items()}
    started, counts = time.monotonic(), {name: Counter[str]() for name in cases}
    asked.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.processes, context, _begin, (asked.seed, place)) as pool:
        try:
            for name, count, faults in pool.map(_run_chunk, _chunks(cases)):
                counts[name] += count
                for number, content, said in faults:
                    _keep(asked.out / f"{name.replace(' ', '-')}-{asked.seed}-{number}", content, said)
        except BrokenProcessPool:
            at = ", ".join(path.read_text() for path in place.glob("at-*"))
            print(f"a process ended at one of: {at}")
            return 1
    seconds = time.monotonic() - started
    _print_table(counts, seconds)
    return 1 if any(count["fault"] for count in counts.values()) else 0


def _chunks(cases: dict[str, int]) -> Iterator[Chunk]:
    for first in range(0, max(cases.values(), default=0), CHUNK):
        for name, count in cases.items():
            if first < count:
                yield name, first, min(count, first + CHUNK)


def _begin(seed: int, place: Path) -> None:
    """Make sound files and a place for damaged ones, and bound this process's memory."""
    warnings.simplefilter("ignore")  # of zip files with two records of one name
    root = Path(tempfile.mkdtemp(dir=place))
    (root / "sound").mkdir()
    (root / "cases").mkdir()
    _state.update(
        kinds=make_kinds(root / "sound"), place=Place(root / "cases"), seed=seed, at=place / f"at-{os.getpid()}"
    )
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, mapped + MEMORY_BYTES))


def _run_chunk(chunk: Chunk) -> Found:
    name, first, last = chunk
    kind, place, count, faults = _state["kinds"][name], _state["place"], Counter[str](), []
    with working_in(place.root / "work"):
        for number in range(first, last):
            content = damaged(kind, name, _state["seed"], number)
            _state["at"].write_text(f"{name} {number}")
            outcome = run_case(kind, content, place)
            count[outcome.ended] += 1
            if outcome.ended == "fault":
                faults.append((number, content, outcome.said))
    return name, count, faults


def _keep(path: Path, content: bytes, said: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.with_name(f"{path.name}.txt").write_text(said)


def _print_table(counts: dict[str, Counter[str]], seconds: float) -> None:
    width = max(map(len, counts), default=4) + 2
    print(f"{'kind':{width}}{'cases':>10}{'refused':>10}{'taken':>10}{'faults':>10}")
    total = Counter[str]()
    for name, count in [*counts.items(), ("all", total)]:
        print(f"{name:{width}}{count.total():10}{count['refused']:10}{count['taken']:10}{count['fault']:10}")
        if name != "all":
            total += count
    print(f"{seconds:.0f} s, {total.total() / max(seconds, 1e-9):.0f} cases a second")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
