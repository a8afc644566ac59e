"""The tracing command as several processes on loopback: the tables are one process's."""

import os
import socket
import subprocess
import sys

import pandas as pd
import pytest
from safetensors.numpy import load_file

from jtrace.runs.log import read
from tests.conftest import ROOT, relative_error, with_devices

PATIENCE = 300

pytestmark = pytest.mark.slow


def together(steps, count, out, *flags, devices=1):
    """Run the command as `count` processes with so many devices each; their statuses and what they printed."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "SLURM_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": with_devices(devices)}
    command = [
        sys.executable, "launch/trace.py", f"--checkpoints={steps}/tiny/step*", f"--statements={steps}/mine.csv",
        f"--out={steps / out}", *flags,
    ]  # fmt: skip
    if count > 1:
        command += ["--distributed", f"--coordinator=127.0.0.1:{port}", f"--processes={count}"]
    processes = [
        subprocess.Popen(
            [*command, f"--process={number}"] if count > 1 else command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(count)
    ]
    try:
        printed = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * count, "\n".join(printed)
    return printed


def agree(steps, out):
    """Whether a run's tables and vectors are the single process's within the bars of the design."""
    found, expected = (pd.read_parquet(steps / run / "metrics") for run in (out, "alone"))
    keys = ["model", "revision", "step", "tokens", "dataset", "layer", "protocol", "metric", "n"]
    pd.testing.assert_frame_equal(found[keys], expected[keys])
    pd.testing.assert_series_equal(found["value"], expected["value"], rtol=5e-4)
    for path in sorted((steps / "alone/vectors").glob("*.safetensors")):
        vectors = load_file(steps / out / "vectors" / path.name)["mine"]
        assert relative_error(vectors, load_file(path)["mine"]) <= 1e-4


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_checkpoints_are_shared_out_and_the_tables_are_one_process_s(steps, count):
    together(steps, 1, "alone")
    printed = together(steps, count, "shared")
    for path in (steps / "alone").glob("*/*.parquet"):
        assert (steps / "shared" / path.relative_to(steps / "alone")).read_bytes() == path.read_bytes()
    passages = read(steps / "shared/log.jsonl")
    assert sorted(passage.checkpoint for passage in passages) == ["tiny@step10", "tiny@step100", "tiny@step2"]
    assert len({passage.process for passage in passages}) == min(count, 3)
    # The first one alone ends with the summary.
    assert ["best layer" in one for one in printed] == [True] + [False] * (count - 1)


@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [(2, 2, "data:2,model:2"), pytest.param(4, 1, "data:2,model:2", marks=pytest.mark.long)],
)
def test_processes_that_share_a_mesh_give_one_process_s_tables(steps, count, devices, mesh):
    together(steps, 1, "alone", "--keep_activations")
    printed = together(steps, count, "meshed", "--one_mesh", f"--mesh={mesh}", "--keep_activations", devices=devices)
    agree(steps, "meshed")
    kept, expected = (
        load_file(steps / run / "activations/tiny@step10/mine.safetensors")["activations"]
        for run in ("meshed", "alone")
    )
    assert relative_error(kept, expected) <= 1e-5
    assert ["best layer" in one for one in printed] == [True] + [False] * (count - 1)
    # One of them writes.
    assert len({passage.process for passage in read(steps / "meshed/log.jsonl")}) == 1


def test_what_one_process_of_a_mesh_cannot_read_none_traces(steps):
    """Found by each on its own; none may wait for the others in a program that they do not run."""
    (steps / "tiny/step10/model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(AssertionError, match=r"1 of 3 checkpoints failed"):
        together(steps, 2, "meshed", "--one_mesh", "--mesh=data:2")
    assert {path.stem for path in (steps / "meshed/metrics").iterdir()} == {"tiny@step2", "tiny@step100"}
