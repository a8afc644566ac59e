"""Whatever becomes of its output, a command does its work, and its status tells of that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import few
from tests.conftest import ROOT

# Prints before and after its work, on both streams, more than a pipe and a buffer hold.
COMMAND = """
import os, sys
from pathlib import Path
from tqdm import tqdm
from jtrace.commands import cli
def main():
    for i in range(20_000):
        print("Größe 北京 \\udcff", i)
        print("Größe", i, file=sys.stderr)
    tqdm.write("Größe", file=sys.stdout)
    sys.stdout.flush()
    Path("work").write_text("done")
    print("Größe")
    return int(os.environ.get("STATUS", 0))
cli.run(main)
"""
CLOSED = 'exec "$@" >&- 2>&- <&-'


def run(folder: Path, *prefix: str, **streams) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **streams.pop("env", {})}
    command = [*prefix, sys.executable, "-c", COMMAND]
    return subprocess.run(command, cwd=folder, env=environment, check=False, timeout=120, **streams)


@pytest.mark.parametrize("encoding", few(["ascii", "latin-1", "utf-8"]))
def test_what_an_encoding_does_not_have_is_escaped(encoding, tmp_path):
    found = run(tmp_path, env={"PYTHONIOENCODING": encoding}, capture_output=True)
    assert (found.returncode, (tmp_path / "work").read_text()) == (0, "done")
    first = found.stdout.decode(encoding).splitlines()[0]
    assert first.endswith("\\udcff 0")
    assert ("\\u5317" in first) == (encoding != "utf-8")


@pytest.mark.parametrize("status", few([3, 0]))
def test_a_full_disk_behind_the_output_costs_nothing(status, tmp_path):
    with open("/dev/full", "wb") as full:
        found = run(tmp_path, env={"STATUS": str(status)}, stdout=full, stderr=full)
    assert (found.returncode, (tmp_path / "work").read_text()) == (status, "done")


def test_a_reader_that_goes_away_costs_nothing(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    found = run(tmp_path, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (found.returncode, (tmp_path / "work").read_text()) == (0, "done")
    assert len(found.stderr.splitlines()) == 20_000  # of the other stream nothing is lost, and nothing is said


def test_streams_that_are_closed_cost_nothing_and_write_into_no_file(tmp_path):
    found = run(tmp_path, "sh", "-c", CLOSED, "sh")
    assert (found.returncode, (tmp_path / "work").read_text()) == (0, "done")


@pytest.mark.slow
def test_a_sweep_whose_reader_goes_away_traces_every_checkpoint(steps):
    """As `trace … | head -1`, on an ASCII terminal that is full, with a set whose name is not ASCII."""
    (steps / "mine.csv").rename(steps / "größe.csv")
    reader, writer = os.pipe()
    os.close(reader)
    flags = ["--checkpoints=tiny/step*", "--statements=größe.csv", "--out=run", "--dtype=float32"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PYTHONIOENCODING": "ascii"}
    with open("/dev/full", "wb") as full:
        command = [sys.executable, str(ROOT / "launch" / "trace.py"), *flags]
        status = subprocess.run(
            command, cwd=steps, env=environment, stdout=writer, stderr=full, timeout=300, check=False
        ).returncode
    os.close(writer)
    assert status == 0
    assert len(list((steps / "run" / "metrics").glob("*.parquet"))) == 3
    assert not (steps / "run" / "failures.jsonl").exists()
