"""Growth with sets and rows: time and memory of whole commands, done or refused beforehand.

python -m pytest -m long tests/sweep/test_growth.py -s
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import LETTERS, ROOT
from tests.tiny_sweep import write_steps

pytestmark = pytest.mark.long


def write_set(path: Path, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    letters = random.choice(list(LETTERS[:26]), (rows, 12))
    lines = ["".join(row) + (" yes" if at % 2 else " no") + f",{at % 2}" for at, row in enumerate(letters)]
    path.write_text("statement,label\n" + "\n".join(lines) + "\n")


def command(name: str, *flags: str) -> tuple[int, str, float, float]:
    """Exit status, last line said, seconds and peak GB of a command in a process of its own."""
    began = time.monotonic()
    line = [sys.executable, "-m", "jtrace", name, *flags]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"XLA_FLAGS": ""}
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    last = (said.strip().splitlines() or [""])[-1]
    return process.returncode, last, time.monotonic() - began, used.ru_maxrss / 1e6


@pytest.mark.parametrize("count", [30, 300])
def test_sets(tmp_path, count):
    folder = write_steps(tmp_path, [1, 10, 100])
    for number in range(count):
        write_set(folder / f"set{number}.csv", 40 + 4 * (number % 10), number)
    sets = ",".join(str(folder / f"set{number}.csv") for number in range(count))
    flags = (f"--checkpoints={folder}/step*", f"--statements={sets}", "--dtype=float32", f"--out={folder}/run")
    status, said, seconds, peak = command("trace", *flags)
    print(f"\n{count} sets, 3 checkpoints: trace {seconds:.0f} s, {peak:.1f} GB")
    assert status == 0, said
    status, said, seconds, peak = command("report", f"--run={folder}/run")
    size = (folder / "run/report.html").stat().st_size / 1e6
    print(f"{count} sets: report {seconds:.0f} s, {peak:.1f} GB, page of {size:.1f} MB")
    assert status == 0, said


@pytest.mark.parametrize("protocol", ["paper", "sound"])
@pytest.mark.parametrize("rows", [8_000, 50_000])
def test_rows(tmp_path, protocol, rows):
    folder = write_steps(tmp_path, [1])
    write_set(folder / "large.csv", rows, 0)
    flags = (f"--checkpoints={folder}/step1", f"--statements={folder}/large.csv", f"--protocol={protocol}",
             "--dtype=float32", f"--out={folder}/run")  # fmt: skip
    status, said, seconds, peak = command("trace", *flags)
    print(f"\n{rows} rows, {protocol}: status {status}, {seconds:.0f} s, {peak:.1f} GB\n{said if status else ''}")
    assert status == 0 or "rows" in said
