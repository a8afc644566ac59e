"""Processes that trace, and are stopped or killed: nothing is lost, nothing is done twice, and the end is the same."""

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jtrace.runs import log
from tests.conftest import ROOT
from tests.hub_server import HubServer, serve
from tests.tiny_sweep import WEIGHTS, results, served, spec, strays, trace, traced, weights_in, write_steps

PATIENCE = 120.0  # seconds, for what takes a few on an idle machine
SOON = 10.0  # seconds in which a process that is asked to end has ended
KILLS = 50

pytestmark = [
    pytest.mark.usefixtures("hub_client"),
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc"),
]


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> Path:
    return write_steps(tmp_path_factory.mktemp("steps"), [2, 10, 50, 100, 500, 1000])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """Compiled programs, for all processes: what the first has compiled the others load."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def untroubled(steps, compiled, tmp_path_factory) -> dict[str, bytes]:
    """The results of one process that nothing happens to."""
    folder = tmp_path_factory.mktemp("untroubled")
    with serve(served(steps)) as server:
        process = Command(folder, steps, compiled, server).start()
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return results(folder / "run")


@pytest.fixture
def server(steps) -> Iterator[HubServer]:
    with serve(served(steps)) as server:
        yield server


class Command:
    """One command line, which any number of processes may run."""

    def __init__(self, folder: Path, steps: Path, compiled: Path, server: HubServer) -> None:
        self.run, self.cache = folder / "run", folder / "cache"
        where = [f"--statements={steps / 'mine.csv'}", f"--out={self.run}", f"--cache_dir={self.cache}"]
        checkpoints = f"--checkpoints={spec(server)}"
        self.line = [sys.executable, str(ROOT / "launch/trace.py"), checkpoints, *where, "--dtype=float32"]
        self.environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self.environment |= {"XDG_CACHE_HOME": str(compiled), **server.environment}

    def start(self, *flags: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*self.line, *flags], **pipes, cwd=ROOT, env=self.environment)

    def is_fetching(self) -> bool:
        return any(path.name.endswith(".incomplete") for path in weights_in(self.cache))

    def has_fetched(self) -> bool:
        return any(not path.name.endswith(".incomplete") for path in weights_in(self.cache))


@pytest.fixture
def command(tmp_path, steps, compiled, server) -> Command:
    return Command(tmp_path, steps, compiled, server)


@pytest.fixture
def start(command, started) -> Callable[..., subprocess.Popen[str]]:
    """Starts a process of the command."""

    def begin(*flags: str) -> subprocess.Popen[str]:
        started.append(command.start(*flags))
        return started[-1]

    return begin


@pytest.fixture
def again(command, steps, server) -> Callable[[], int]:
    """What a later process of the same command does, in this one."""
    return functools.partial(trace, command.run, steps, server, command.cache / "hub")


def wait_until(there: Callable[[], object], *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline, "it did not come about"
        assert all(process.poll() is None for process in processes), processes[0].communicate()[1]
        time.sleep(0.01)


def claimed(process: subprocess.Popen[str]) -> set[str]:
    """Names of the checkpoints that a process has claimed: locks that it holds open."""
    names = set()
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            path = Path(os.readlink(descriptor))
        except FileNotFoundError:
            continue
        if path.suffix == ".lock" and path.parent.name == ".locks" and not path.name.startswith("."):
            names.add(path.stem)
    return names


# Asked to end


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "status"),
    [
        pytest.param("fetch", signal.SIGTERM, 143, marks=pytest.mark.long),
        ("compute", signal.SIGINT, 130),
        pytest.param("fetch", signal.SIGINT, 130, marks=pytest.mark.long),
        pytest.param("compute", signal.SIGTERM, 143, marks=pytest.mark.long),
    ],
)
def test_a_process_that_is_asked_to_end_does_so_soon_and_says_how_to_go_on(
    number, status, stage, command, start, again, server, steps, untroubled
):
    size = (steps / "step2" / WEIGHTS).stat().st_size
    if stage == "fetch":
        server.bytes_per_second = size / 30
    process = start()
    wait_until(command.is_fetching if stage == "fetch" else command.has_fetched, process)
    done = len(traced(command.run))
    process.send_signal(number)
    asked = time.monotonic()
    printed, errors = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - asked < SOON
    assert process.returncode == status
    assert "Traceback" not in printed + errors
    left = len(traced(command.run))
    assert done <= left < 6
    ended = "terminated" if number == signal.SIGTERM else "interrupted"
    assert errors.splitlines()[-2:] == [
        f"stopped with {left} of 6 checkpoints traced",
        f"{ended}; the same command goes on with what is missing",
    ]
    assert strays(command.run) == []

    server.bytes_per_second = None
    assert again() == 0
    assert results(command.run) == untroubled
    assert weights_in(command.cache) == []


# Several at once


@pytest.mark.slow
def test_two_processes_at_once_trace_each_checkpoint_once(command, start, server, steps, untroubled):
    server.bytes_per_second = (steps / "step2" / WEIGHTS).stat().st_size
    processes = [start(), start()]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    passages = log.read(command.run / "log.jsonl")
    assert sorted(passage.checkpoint for passage in passages) == sorted(
        path.stem for path in command.run.glob("metrics/*")
    )
    assert len(passages) == 6
    assert len({passage.process for passage in passages}) == 2
    assert results(command.run) == untroubled
    assert weights_in(command.cache) == []


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_another_one_takes_over(command, start, server, steps, untroubled):
    server.bytes_per_second = (steps / "step2" / WEIGHTS).stat().st_size
    killed, other = start(), start()
    wait_until(lambda: claimed(killed) and claimed(other), killed, other)
    wait_until(command.is_fetching, killed, other)
    taken = claimed(killed)
    killed.kill()
    killed.communicate()
    assert taken - {f"org--tiny@{step}" for step in traced(command.run)}
    _, errors = other.communicate(timeout=PATIENCE)
    assert other.returncode == 0, errors
    assert results(command.run) == untroubled
    assert taken <= {passage.checkpoint for passage in log.read(command.run / "log.jsonl")}
    assert weights_in(command.cache) == []


@pytest.mark.slow
def test_a_run_directory_in_use_takes_no_other_configuration(command, start, server, steps):
    server.bytes_per_second = (steps / "step2" / WEIGHTS).stat().st_size / 60
    first = start()
    wait_until(lambda: claimed(first), first)
    other = start("--layers=0")
    _, errors = other.communicate(timeout=PATIENCE)
    assert other.returncode == 1
    assert errors.splitlines()[-1].startswith(
        f'error: {command.run}/run.json: layers was "all" in this run and is [0] now; take another --out'
    )
    assert traced(command.run) == []
    assert first.poll() is None


# Killed


@pytest.mark.slow
def test_what_a_killed_process_has_written_aside_is_gone_after_the_next(command, start, again, server, untroubled):
    script = (
        "import os, sys; from pathlib import Path; from jtrace.runtime.atomic import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as aside: aside.write_text('half'); os.kill(os.getpid(), 9)"
    )
    names = ["run.json", "failures.jsonl", "metrics/a.parquet", "vectors/a.safetensors", "projections/a.parquet"]
    for name in names:
        (command.run / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-c", script, str(command.run / name)], cwd=ROOT, check=False)
    assert len(strays(command.run)) == len(names)
    for folder in ("metrics", "vectors"):  # a run that is killed so early has none yet
        assert not list((command.run / folder).glob("[!.]*"))
    (command.run / "run.json").write_text('{"config": {}, "data": {}, "checkpoints": [], "commands": []}')
    assert again() == 0
    assert strays(command.run) == []
    assert results(command.run) == untroubled


def stage_of(command: Command, process: subprocess.Popen[str]) -> str:
    """What a process is at, by what can be seen of it."""
    if any(f"-{process.pid}." in path.name for path in strays(command.run)):
        return "write"
    if not claimed(process):
        return "end" if len(traced(command.run)) == 4 else "start-up"
    at = {"fetch": command.is_fetching(), "compute": command.has_fetched()}
    return " and ".join(stage for stage, there in at.items() if there) or "check"


@pytest.mark.long
def test_fifty_kills_at_random_moments_change_nothing(tmp_path, steps, compiled, capsys):
    chance = random.Random(0)
    refs = {
        key: folder
        for key, folder in served(steps).items()
        if folder.name in ("step2", "step10", "step100", "step1000")
    }
    size = (steps / "step2" / WEIGHTS).stat().st_size
    with serve(refs, bytes_per_second=size) as server:
        whole = Command(tmp_path / "whole", steps, compiled, server)
        for _ in range(2):  # the first one compiles
            shutil.rmtree(whole.run, ignore_errors=True)
            began = time.monotonic()
            process = whole.start()
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            duration = time.monotonic() - began
        command, stages = Command(tmp_path / "killed", steps, compiled, server), Counter[str]()
        while stages.total() < KILLS:
            process, delay = command.start(), chance.uniform(0, duration)
            try:
                _, errors = process.communicate(timeout=delay)
            except subprocess.TimeoutExpired:
                stages[stage_of(command, process)] += 1
                process.kill()
                process.communicate()
            else:
                assert process.returncode == 0, errors
                for table in chance.sample(sorted(command.run.glob("metrics/*.parquet")), chance.choice((1, 2))):
                    table.unlink()
        process = command.start()
        _, errors = process.communicate(timeout=PATIENCE)
    with capsys.disabled():
        print(f"\n{KILLS} kills within {duration:.1f} s:", ", ".join(f"{at} {count}" for at, count in stages.items()))
    assert process.returncode == 0, errors
    assert results(command.run) == results(whole.run)
    assert not (command.run / "failures.jsonl").exists() or not (command.run / "failures.jsonl").read_bytes()
    assert strays(command.run) == []
    assert weights_in(command.cache) == []
