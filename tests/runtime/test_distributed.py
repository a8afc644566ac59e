"""Several processes as one command, here two on one machine: they meet, agree, wait, and end whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.runtime.distributed import all_agree, from_first, initialize, leave, share, wait_for_all
from tests.conftest import ROOT, with_devices

PATIENCE = 90  # seconds after which a test gives up
# A command of its own: meets the others, says what it found, then does what its argument says.
COMMAND = """
import os, time
import jax, numpy as np
from absl import flags
from jtrace.commands import cli
from jtrace.runtime import distributed
from jtrace.runtime.distributed import all_agree, from_first, initialize, share, wait_for_all
from jtrace.errors import InputError

distributed.LEAVE_SECONDS = 2  # tests have no time
COORDINATOR = flags.DEFINE_string("coordinator", None, "")
PROCESSES, PROCESS = flags.DEFINE_integer("processes", None, ""), flags.DEFINE_integer("process", None, "")
THEN = flags.DEFINE_string("then", "", "")

def say(*words):
    # In one piece and on a line of its own, whatever Gloo writes between.
    os.write(1, ("\\n" + " ".join(map(str, words)) + "\\n").encode())

def main():
    patience = 3 if THEN.value == "alone" else 60
    initialize(COORDINATOR.value, PROCESSES.value, PROCESS.value, one_mesh=True, timeout_s=patience)
    me, first = jax.process_index(), jax.process_index() == 0
    say("devices", jax.device_count(), jax.local_device_count())
    say("mine", share("abcde", me, jax.process_count()))
    say("agree", all_agree(True), all_agree(first), all_agree(not first), all_agree(False))
    say("first", from_first(np.array([first, True, False])).tolist(), from_first(np.zeros(0, bool)).tolist())
    say("caching", jax.config.values["jax_enable_compilation_cache"])
    if THEN.value in ("skew", "late") and first:
        time.sleep(3 if THEN.value == "skew" else 60)
    began = time.monotonic()
    wait_for_all("checkpoints")
    say("waited", round(time.monotonic() - began))
    if THEN.value == "sleep" or (THEN.value == "fault" and first):
        for _ in range(600):  # a signal between two instructions and a long sleep would not be seen in it
            time.sleep(0.1)
    if THEN.value == "fault":
        raise InputError("no such file")
    if THEN.value == "skew" and first:
        time.sleep(4)
    return 5 + me

cli.run(main)
"""


class Start(Protocol):
    def __call__(self, *flags: str, **environment: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def start(tmp_path: Path, started: list[subprocess.Popen[str]]) -> Start:
    """Starts a process of the command above on two devices."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND)

    def begin(*flags: str, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "SLURM_"))}
        kept |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": with_devices(2)}
        kept |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
        line, pipe = [sys.executable, script, *flags], subprocess.PIPE
        started.append(subprocess.Popen(line, cwd=ROOT, env=kept | environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    return begin


@pytest.fixture
def two(start: Start) -> list[subprocess.Popen[str]]:
    """Two processes that have met and now sleep."""
    flags = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--then=sleep"]
    processes = [start(*flags, f"--process={process}") for process in range(2)]
    for process in processes:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("waited"):
            assert process.poll() is None
    return processes


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_checkpoints_are_shared_out_by_stripes():
    assert [share(range(7), process, 3) for process in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert share("ab", 3, 4) == []


def test_a_single_process_waits_for_nobody():
    assert all_agree(True)
    assert not all_agree(False)
    flags = np.array([True, False])
    assert from_first(flags) is flags
    wait_for_all("anything")
    leave(1)


@pytest.mark.slow
def test_two_processes_agree_and_wait_and_each_ends_with_its_own_status(start):
    flags = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--then=skew"]
    ended = [finish(process) for process in [start(*flags, f"--process={process}") for process in range(2)]]
    for process, (status, out, err) in enumerate(ended):
        assert status == 5 + process, err
        assert "devices 4 2" in out
        assert f"mine {[list('ace'), list('bd')][process]}" in out
        assert "agree True False False False" in out
        assert "first [True, True, False] []" in out
        assert "caching False" in out
    assert "waited 0" in ended[0][1]
    assert "waited 3" in ended[1][1]


@pytest.mark.slow
def test_slurm_tells_who_takes_part(start):
    job = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    job["JAX_COORDINATOR_PORT"] = str(free_port())
    processes = [start(**job, SLURM_PROCID=str(process)) for process in range(2)]
    for process, (status, out, err) in enumerate(map(finish, processes)):
        assert status == 5 + process, err
        assert f"mine {[list('ace'), list('bd')][process]}" in out


def test_sigterm_ends_all_that_get_it_in_order(two):
    for process in two:
        process.send_signal(signal.SIGTERM)
    for process in two:
        status, _, err = finish(process)
        assert (status, err) == (143, "terminated; the same command goes on with what is missing\n")


@pytest.mark.slow
def test_one_that_alone_gets_it_does_not_wait_for_the_others(two):
    two[1].send_signal(signal.SIGTERM)
    began = time.monotonic()
    status, _, err = finish(two[1])
    assert (status, err) == (143, "terminated; the same command goes on with what is missing\n")
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_one_that_waits_for_the_others_need_not_wait_longer(start):
    flags = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--then=late"]
    _, waiting = [start(*flags, f"--process={process}") for process in range(2)]
    while not waiting.stdout.readline().startswith("caching"):
        assert waiting.poll() is None
    time.sleep(1)
    waiting.send_signal(signal.SIGTERM)
    began = time.monotonic()
    status, _, err = finish(waiting)
    assert (status, err) == (143, "terminated; the same command goes on with what is missing\n")
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_neither_does_one_with_a_fault(start):
    flags = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", "--then=fault"]
    _, second = [start(*flags, f"--process={process}") for process in range(2)]
    status, _, err = finish(second)
    assert (status, err) == (1, "error: no such file\n")


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, pytest.param(1, marks=pytest.mark.long)])
def test_one_whose_others_do_not_come_says_so_and_ends(start, process):
    alone = start(f"--coordinator=127.0.0.1:{free_port()}", "--processes=2", f"--process={process}", "--then=alone")
    status, _, err = finish(alone)
    assert status == 1
    assert err.startswith("error: --distributed: not all processes met at 127.0.0.1:")
    assert err.count("\n") == 1


def test_where_nothing_tells_of_a_cluster_the_three_flags_are_asked_for(start):
    status, _, err = finish(start())
    assert status == 1
    assert err.startswith("error: --distributed: neither SLURM (srun), Open MPI nor a TPU pod started this process; ")
    assert err.count("\n") == 1


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--coordinator=localhost:{port}: this port cannot be had"):
            initialize(f"localhost:{port}", 2, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host", 2, 0), "--coordinator=host: no port; give host:port"),
        (("host:1", None, 0), "give all of --coordinator, --processes and --process, or none"),
        ((None, 2, 0), "give all of --coordinator, --processes and --process, or none"),
        (("host:99999", 2, 0), "--coordinator=host:99999: no port; give host:port"),
        (("host:1", 2, 2), "--process=2: not one of 2; they are numbered from 0 to 1"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_at_once(given, message):
    with pytest.raises(InputError, match=message):
        initialize(*given)
