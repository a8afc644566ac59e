"""How commands begin and end: what is said of bad input, where a device is missing, and when they are stopped."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import jax
import pytest
from absl import flags
from absl import logging as absl_logging

from jtrace.commands import cli
from jtrace.errors import InputError, Terminated
from jtrace.runtime.prefetch import Ahead
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


# The same rim in this process, without absl's around it and without the end of the process.


class Ended(BaseException):
    """The process would have ended at once, with this status."""


@pytest.fixture
def ends_at_once(monkeypatch):
    """In place of the end of the process."""

    def end(status):
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)


@pytest.fixture
def undone(monkeypatch):
    """The state of a process that a command changes, put back afterwards."""
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    monkeypatch.setattr(sys.modules["__main__"], "__doc__", None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(cli, "speak_without_fail", lambda: None)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGURG)}
    verbosity, level = absl_logging.get_verbosity(), logging.getLogger("huggingface_hub").level
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    absl_logging.set_verbosity(verbosity)
    logging.getLogger("huggingface_hub").setLevel(level)


@pytest.fixture
def status_of(monkeypatch, undone, ends_at_once):
    """Runs a `main` with words of the command line, and returns the status."""

    def run(main, *words, **options):
        statuses = []
        monkeypatch.setattr(sys, "argv", ["jtrace", *words])
        monkeypatch.setattr(cli.app, "run", lambda guarded: statuses.append(guarded(flags.FLAGS(sys.argv))))
        cli.run(main, **options)
        (status,) = statuses
        return status

    return run


def raising(error):
    def main():
        raise error

    return main


def test_a_command_has_its_flags_and_its_help(status_of):
    values, seen = flags.FlagValues(), []
    out = flags.DEFINE_string("out", None, "A folder.", flag_values=values)
    assert status_of(lambda: seen.append(out.value) or 3, "--out=x", values=values, about="What it does.") == 3
    assert seen == ["x"]
    assert sys.modules["__main__"].__doc__ == "What it does."


@pytest.mark.parametrize(
    ("words", "named", "beside"), [(("a", "b"), False, ["a", "b"]), (("trace", "a"), True, ["a"]), ((), False, [])]
)
def test_words_beside_the_flags_are_given_to_a_command_that_takes_them(status_of, words, named, beside):
    seen = []
    assert status_of(lambda given: seen.append(given) or 0, *words, words=True, named=named) == 0
    assert seen == [beside]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("--out=x: no"), "error: --out=x: no"),
        (PermissionError(13, "Permission denied", "a/b"), "error: a/b: Permission denied"),
        (OSError("no space"), "error: no space"),
    ],
)
def test_what_is_wrong_is_a_line_and_status_1(status_of, capsys, error, line):
    assert status_of(raising(error)) == 1
    assert capsys.readouterr() == ("", f"{line}\n")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("more", "error: 'more' is not a flag; write --flag=value, and see --help\n"),
        ("\udcff", "error: the command line: '\\udcff': the name of a file or folder is not UTF-8; rename it\n"),
    ],
)
def test_a_word_that_is_no_flag_is_refused_before_anything_is_done(status_of, capsys, word, line):
    assert status_of(raising(AssertionError("it has begun")), word) == 1
    assert capsys.readouterr().err == line


def test_a_fault_is_no_line(status_of):
    with pytest.raises(ZeroDivisionError):
        status_of(raising(ZeroDivisionError()))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_at_once_but_for_its_cleaning_up(status_of, capsys, number, status):
    cleaned = []

    def main():
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(number)

    with pytest.raises(Ended) as ended:
        status_of(main)
    assert (ended.value.args, cleaned) == ((status,), [number])
    word = "interrupted" if status == 130 else "terminated"
    assert capsys.readouterr().err == f"{word}; the same command goes on with what is missing\n"


def test_a_second_signal_ends_a_command_within_its_cleaning_up(status_of):
    def main():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Ended) as ended:
        status_of(main)
    assert ended.value.args == (130,)


def test_a_signal_that_is_hidden_stays_so(undone):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cli._stop_on_signals()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Terminated])
def test_a_signal_that_was_raised_where_nothing_can_be_raised_comes_again(undone, kind):
    """A fault within a callback of the garbage collection, of which Python tells this hook alone."""

    def collect():
        sys.unraisablehook(SimpleNamespace(exc_type=kind))
        time.sleep(30)

    cli._stop_on_signals()
    with pytest.raises(kind) as again:
        collect()
    assert again.type is kind


def test_other_faults_that_cannot_be_raised_are_told_as_ever(undone, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "__unraisablehook__", seen.append)
    cli._stop_on_signals()
    fault = SimpleNamespace(exc_type=ValueError)
    sys.unraisablehook(fault)
    assert seen == [fault]


def test_a_thread_that_is_at_work_does_not_keep_a_failed_command_from_ending(status_of):
    done = threading.Event()
    thread = Ahead(target=done.wait, daemon=True)
    thread.start()
    try:
        with pytest.raises(Ended) as ended:
            status_of(raising(InputError("no")))
        assert ended.value.args == (1,)
    finally:
        done.set()
        thread.join()


@pytest.fixture
def platforms(monkeypatch):
    """Sets JAX_PLATFORMS of this process, whose device is the CPU already."""
    before = jax.config.values["jax_platforms"]
    yield lambda name: jax.config.update("jax_platforms", name)
    jax.config.update("jax_platforms", before)


@pytest.mark.parametrize(("asked", "kept"), [("cuda", "cuda,cpu"), ("tpu,cpu", "tpu,cpu"), ("cpu", "cpu"), ("", "")])
def test_the_host_stays_beside_an_accelerator(platforms, asked, kept):
    platforms(asked)
    cli._keep_the_host()
    assert jax.config.values["jax_platforms"] == kept


def test_a_device_that_jax_passes_over_is_told(platforms):
    cli.check_device()
    platforms("cuda,cpu")
    with pytest.raises(
        InputError, match=r"^JAX_PLATFORMS=cuda: not found \(no such device, or no JAX for it\); unset it"
    ):
        cli.check_device()


def test_a_device_that_jax_fails_to_start_is_told_with_the_reason(platforms, monkeypatch):
    def fails():
        raise RuntimeError("Unable to initialize backend 'tpu':\nno TPU (set JAX_PLATFORMS='' to choose another)")

    platforms("tpu")
    monkeypatch.setattr(jax, "default_backend", fails)
    with pytest.raises(InputError, match=r"not found \(Unable to initialize backend 'tpu': no TPU\); unset it"):
        cli.check_device()
