"""Flags that are more than a value, and how commands end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from jtrace.commands.flags import parse_layer_groups, parse_layers, parse_strengths, parse_vector_layers
from jtrace.errors import InputError
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


@pytest.mark.parametrize(
    ("command", "platform"),
    [("trace", "cuda"), ("steer", "cuda"), ("pretrain", "cuda"), ("convert", "cuda"), ("trace", "tpu"), ("steer", "x")],
)
def test_a_device_that_is_not_there_is_one_line(tmp_path, command, platform):
    flags = {
        "trace": ["--checkpoints=x", "--statements=y", "--out=z"],
        "steer": ["--target=x", "--tasks=perplexity", "--out=z"],
        "pretrain": ["--text=x", "--steps=1", "--out=z"],
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_while_garbage_is_collected_is_not_lost(start, number, status):
    """JAX has Python call it then, and what is raised there goes nowhere."""
    process = start(0, "env", "COLLECTING=3")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("\n")) == (status, 1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_the_cleaning_up_without_a_traceback(start, number, status):
    process = start(60)
    process.send_signal(signal.SIGTERM)
    wait_for(process, "cleaning up")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (status, "")


def test_what_a_shell_hides_from_its_background_stays_hidden(start):
    process = start(0, "sh", "-c", 'trap "" INT; exec "$@"', "sh")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert "terminated" in process.communicate(timeout=30)[1]
    assert process.returncode == 143


@pytest.mark.parametrize(
    ("text", "layers"),
    [("all", None), ("3", (3,)), ("0,6,12-14", (0, 6, 12, 13, 14)), ("5,5,4", (4, 5)), (" 1, 2", (1, 2))],
)
def test_layers_are_numbers_and_ranges(text, layers):
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "4-2", "1,,2", "1.5", "0-99999999999"])
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match=r"is not a layer|beyond any model"):
        parse_layers(text)


@pytest.mark.parametrize(
    ("text", "rows"),
    [("", None), ("15", (15,)), ("embedding,0-2", (None, 0, 1, 2)), ("12, 3", (12, 3))],
)
def test_layers_of_rows_keep_their_order(text, rows):
    assert parse_vector_layers(text) == rows


@pytest.mark.parametrize("text", ["all", "3,3", "0-2,1", "embedding,embedding", "x", "1,"])
def test_layers_of_rows_are_named_once_each(text):
    with pytest.raises(InputError, match=r"--vector_layers=.*(name each row's layer, once|is not a layer)"):
        parse_vector_layers(text)


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("all", None),
        ("3", ((3,),)),
        ("0,6,12-14", ((0,), (6,), (12,), (13,), (14,))),
        ("10+15", ((10, 15),)),
        ("15+10, 3, 10+15", ((10, 15), (3,))),
        ("1+3-5,2", ((1, 3, 4, 5), (2,))),
        ("5,5", ((5,),)),
    ],
)
def test_layers_are_steered_one_after_the_other_or_those_of_a_sum_at_once(text, groups):
    assert parse_layer_groups(text) == groups


@pytest.mark.parametrize("text", ["", "x", "1+", "+", "1,,2", "-1", "4-2", "0-99999999999", "all,1", "1+all"])
def test_other_layers_to_steer_are_refused(text):
    with pytest.raises(InputError, match=r"is not a layer|beyond any model|all stands by itself"):
        parse_layer_groups(text)


@pytest.mark.parametrize(
    ("texts", "strengths"),
    [
        (["-2", "-1", "0", "1", "2"], (-2.0, -1.0, 0.0, 1.0, 2.0)),
        (["1", "1.0", "0.5"], (1.0, 0.5)),
        ([" 1e-1 "], (0.1,)),
    ],
)
def test_strengths_are_numbers_each_once(texts, strengths):
    assert parse_strengths(texts) == strengths


def test_minus_nothing_is_nothing():
    assert str(parse_strengths(["-0", "0"])) == "(0.0,)"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "strong"], "--strengths: 'strong' is no number; give numbers as"),
        (["1", ""], "'' is no number"),
        (["nan"], "--strengths=nan: give finite numbers"),
        (["1", "inf"], "--strengths=1,inf: give finite numbers"),
        (["1e999"], "give finite numbers"),
        ([], "give finite numbers"),
    ],
)
def test_other_strengths_are_refused(texts, message):
    with pytest.raises(InputError, match=message):
        parse_strengths(texts)
