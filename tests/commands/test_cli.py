"""How commands end: where a device is missing, and when they are stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import ROOT

# A command that is at work until it is stopped, and then takes its time to clean up.
COMMAND = """
import gc, os, sys, time
from jtrace.commands import cli
def at_work(*_):
    gc.callbacks.clear()
    print("at work", flush=True)
    time.sleep(float(os.environ.get("COLLECTING", 0)))
def main():
    try:
        if "COLLECTING" in os.environ:
            gc.callbacks.append(at_work)
            gc.collect()
        else:
            at_work()
        time.sleep(60)
    finally:
        print("cleaning up", flush=True)
        time.sleep(float(sys.argv[0]))
    return 0
sys.argv = sys.argv[1:]
cli.run(main)
"""


class Start(Protocol):
    def __call__(self, seconds: float, *prefix: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def start(tmp_path: Path, started: list[subprocess.Popen[str]]) -> Start:
    """Starts the command above, which takes so many seconds to clean up."""

    def begin(seconds: float, *prefix: str) -> subprocess.Popen[str]:
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
        line, pipe = [*prefix, sys.executable, "-c", COMMAND, str(seconds)], subprocess.PIPE
        started.append(subprocess.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True))
        wait_for(started[-1], "at work")
        return started[-1]

    return begin


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


@pytest.mark.slow
@pytest.mark.parametrize(("command", "platform"), [("trace", "cuda"), ("steer", "x"), ("convert", "tpu")])
def test_a_device_that_is_not_there_is_one_line(tmp_path, command, platform):
    flags = {
        "trace": ["--checkpoints=x", "--statements=y", "--out=z"],
        "steer": ["--target=x", "--tasks=perplexity", "--out=z"],
        "convert": ["--checkpoint=x", "--to=hf", "--out=z"],
    }[command]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": platform}
    line = [sys.executable, str(ROOT / f"launch/{command}.py"), *flags]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    if platform != "x" and "JAX_PLATFORMS" not in done.stderr:
        pytest.skip(f"JAX finds a {platform} here")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: JAX_PLATFORMS={platform}: not found (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "z").exists()


@pytest.mark.parametrize(
    ("number", "status", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_stopped_command_cleans_up_and_says_how_to_go_on(start, number, status, said):
    process = start(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (status, "cleaning up\n")
    assert err == f"{said}; the same command goes on with what is missing\n"


@pytest.mark.alone
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_while_garbage_is_collected_is_not_lost(start, number, status):
    """JAX has Python call it then, and what is raised there goes nowhere."""
    process = start(0, "env", "COLLECTING=3")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (status, 1)


@pytest.mark.alone
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_cleaning_up_without_a_traceback(start, number, status):
    process = start(60)
    process.send_signal(signal.SIGTERM)
    wait_for(process, "cleaning up")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (status, "")


@pytest.mark.alone
def test_what_a_shell_hides_from_its_background_stays_hidden(start):
    process = start(0, "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert "terminated" in process.communicate(timeout=30)[1]
    assert process.returncode == 143
