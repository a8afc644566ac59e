"""Which process does what."""

import errno
import fcntl
import signal
import subprocess
import sys
import threading
import time

import pytest

from jtrace.runtime import locks as runtime_locks
from jtrace.runtime.locks import Claims, alone, in_use, is_used
from tests.conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from jtrace.runtime.locks import Claims
assert Claims(Path(sys.argv[1])).take("step1")
print("taken", flush=True)
time.sleep(60)
"""


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == "taken\n"
    return process


def test_a_name_is_one_claimant_s_until_it_is_released(tmp_path):
    mine, yours = Claims(tmp_path / "locks"), Claims(tmp_path / "locks")
    assert mine.take("step1")
    assert mine.take("step1")
    assert not yours.take("step1")
    assert yours.take("step2")
    mine.release("step1")
    assert yours.take("step1")
    yours.release_all()
    assert mine.take("step2")


def test_a_killed_process_lets_go(tmp_path):
    process = holder(tmp_path)
    mine = Claims(tmp_path)
    assert not mine.take("step1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert mine.take("step1")


def test_a_lock_that_was_removed_while_we_waited_for_it_is_none(tmp_path, monkeypatch):
    """The last holder removes its file after we have opened it: we must not lock a file that nobody else can see."""
    mine, other = Claims(tmp_path), Claims(tmp_path)
    original, raced = fcntl.flock, []

    def racing(opened, how):
        if not raced:
            raced.append(True)
            (tmp_path / "step1.lock").unlink()
        return original(opened, how)

    monkeypatch.setattr(runtime_locks.fcntl, "flock", racing)
    assert mine.take("step1")
    assert not other.take("step1")


def test_a_file_system_without_locks_grants_everything_and_says_so_once(tmp_path, monkeypatch, capsys):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(runtime_locks.fcntl, "flock", unsupported)
    mine = Claims(tmp_path)
    assert mine.take("step1")
    assert mine.take("step2")
    assert not mine.locking
    assert capsys.readouterr().err.count("has no locks") == 1


def test_blocks_of_one_file_wait_for_each_other(tmp_path):
    order = []

    def other():
        with alone(tmp_path / "lock"):
            order.append("other")

    with alone(tmp_path / "lock"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_several_may_use_a_thing_at_once(tmp_path):
    path = tmp_path / "lock"
    assert not is_used(path)
    with in_use(path), in_use(path):
        assert is_used(path)
    assert not is_used(path)


@pytest.mark.parametrize("name", ["org--model@step1", "a@b c"])
def test_nothing_is_left_in_the_folder(tmp_path, name):
    mine = Claims(tmp_path)
    mine.take(name)
    mine.release(name)
    assert list(tmp_path.iterdir()) == []
