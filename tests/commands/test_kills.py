"""Kills at random moments in every command: the same command goes on, and ends as one that was never killed.

`trace` and `pretrain` have theirs in tests/sweep/test_survival.py and tests/pretraining/test_run.py.
"""

import multiprocessing
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.runs.run_directory import RunDirectory
from tests.in_process import run_command
from tests.tiny_chat import write_chat, write_set, write_vectors

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs a fork server"),
]
KILLS = 25
Contents = dict[str, bytes]


def at_work(name: str, flags: list[str], said: str) -> None:
    """A command in a process of its own."""
    with open(said, "w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        os._exit(run_command(name, *flags))


class Command:
    """A command that processes run which have imported all that it needs, so that kills fall into its work."""

    def __init__(self, name: str, flags: list[str], folder: Path) -> None:
        self.name, self.flags, self.said = name, flags, str(folder / "said.txt")
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload([f"jtrace.commands.{name}", "tests.in_process"])

    def start(self) -> multiprocessing.process.BaseProcess:
        process = self.processes.Process(target=at_work, args=(self.name, self.flags, self.said))
        process.start()
        return process

    def finish(self) -> None:
        process = self.start()
        process.join()
        assert process.exitcode == 0, Path(self.said).read_text()


def survives(command: Command, out: Path, results: Callable[[Path], Contents], stage: Callable[[], str]) -> None:
    """Compares the results of a run killed at `KILLS` moments, anew whenever it ends, with those of a whole one."""
    command.finish()  # compiles
    remove(out)
    began = time.monotonic()
    command.finish()
    seconds, whole = time.monotonic() - began, results(out)
    assert whole
    chance, stages = random.Random(0), Counter[str]()
    remove(out)
    while stages.total() < KILLS:
        process = command.start()
        process.join(chance.uniform(0, seconds))
        if process.exitcode is None:
            stages[stage()] += 1
            process.kill()
            process.join()
        else:
            assert process.exitcode == 0, Path(command.said).read_text()
            assert results(out) == whole
            remove(out)
    command.finish()
    assert results(out) == whole
    assert not list(out.parent.rglob(".*.tmp"))
    print(f"\n{command.name}: {KILLS} kills over {seconds:.1f} s: {dict(stages)}")


def remove(out: Path) -> None:
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)


def of_steering(out: Path) -> Contents:
    """Tables, completions and figures. The order of rows and lines, and the tables' times, tell when which was made."""
    rows = RunDirectory(out).read_steering()
    tables = rows.sort_values([*rows.columns], ignore_index=True).to_csv(float_format="%.17g")
    lines = [line for path in (out / "completions").iterdir() for line in path.read_bytes().splitlines()]
    figures = {path.name: path.read_bytes() for path in (out / "figures").iterdir()}
    return {"tables": tables.encode(), "completions": b"\n".join(sorted(lines))} | figures


def of_folder(out: Path) -> Contents:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def of_store(out: Path) -> Contents:
    """An Orbax checkpoint's params, as bytes of its own files differ between any two writings, and what is beside."""
    _, params = read_checkpoint(out, np.float32)
    values = {name: np.asarray(value).tobytes() for name, value in flatten_dict(params, sep="/").items()}
    return values | {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def of_file(out: Path) -> Contents:
    return {out.name: out.read_bytes()}


def files_in(out: Path) -> str:
    return f"{sum(path.is_file() for path in out.rglob('*'))} files"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    write_chat(tmp_path / "chat")
    write_set(tmp_path / "stereoset.csv")
    write_vectors(tmp_path / "vectors/base_step7.safetensors")
    return tmp_path


def test_steer(place):
    flags = [
        f"--target={place}/chat", f"--vectors={place}/vectors/*.safetensors", "--vector_set=stereoset",
        "--tasks=stereoset,perplexity", "--layers=0,1", "--strengths=-1,0,1", "--protocol=paper,sound", "--random=3",
        f"--data_dir={place}", "--dtype=float32", f"--out={place}/run",
    ]  # fmt: skip
    out = place / "run"
    survives(Command("steer", flags, place), out, of_steering, lambda: files_in(out))


@pytest.mark.parametrize(("to", "results"), [("orbax", of_store), ("hf", of_folder)])
def test_convert(place, to, results):
    out = place / "out"
    flags = [f"--checkpoint={place}/chat", f"--to={to}", f"--out={out}"]
    survives(Command("convert", flags, place), out, results, lambda: files_in(place) + " in all")


def test_report(place):
    run = place / "run"
    flags = [f"--checkpoints={place}/chat", f"--statements={place}/stereoset.csv", "--dtype=float32", f"--out={run}"]
    Command("trace", flags, place).finish()
    page = run / "report.html"
    survives(Command("report", [f"--run={run}"], place), page, of_file, lambda: f"page there: {page.exists()}")
