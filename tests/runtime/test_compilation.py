"""What one process has compiled, the next one loads; what others could have put there is never run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest

from jtrace.runtime import compilation
from jtrace.runtime.compilation import release_programs
from tests.conftest import ROOT

# Counts what JAX's cache did, then does what the other arguments say as if they were the command.
COUNTED = """
import atexit, collections, json, runpy, sys
import jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.rpartition("/")[2]]))
atexit.register(lambda: print(json.dumps([counts["cache_misses"], counts["cache_hits"]])))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Compiles three programs, of which two have the same name.
THREE = """
import jax, jax.numpy as jnp, numpy as np
from jtrace.runtime.compilation import use_cache
print(use_cache())
for n in (8, 16):
    jax.jit(lambda x: jnp.tanh(x @ x))(np.ones((n, n), np.float32))
jax.jit(jnp.cumsum)(np.ones(8, np.float32))
"""


class Start(Protocol):
    def __call__(self, *command: str | Path, **environment: str) -> subprocess.Popen[str]: ...


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start(cache: Path, started: list[subprocess.Popen[str]]) -> Start:
    """Starts a counted command with a cache of its own."""

    def begin(*command: str | Path, **environment: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        kept |= {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
        line, pipe = [sys.executable, "-c", COUNTED, *command], subprocess.PIPE
        started.append(subprocess.Popen(line, cwd=ROOT, env=kept | environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    return begin


def finish(process: subprocess.Popen[str]) -> tuple[list[int], str, str]:
    """Misses and hits, the rest of stdout, stderr."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    *printed, counts = out.splitlines()
    return json.loads(counts), "\n".join(printed), err


@pytest.fixture
def three(tmp_path: Path) -> Path:
    script = tmp_path / "three.py"
    script.write_text(THREE)
    return script


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, cache: Path) -> dict[str, object]:
    """JAX's settings as a user has them, apart from this process's; and a user's cache."""
    values: dict[str, object] = {"jax_enable_compilation_cache": True, "jax_compilation_cache_dir": None}
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(compilation.jax.config, "update", values.__setitem__)
    monkeypatch.setattr(type(compilation.jax.config), "values", values, raising=False)
    monkeypatch.setattr(compilation.jaxlib_utils, "absl_set_min_log_level", lambda level: None)
    monkeypatch.setattr(compilation.warnings, "showwarning", lambda *told: None)
    return values


@pytest.mark.alone
def test_a_second_trace_compiles_nothing_and_its_tables_are_those_of_a_trace_without_a_cache(steps, start):
    def trace(out: str, **environment: str) -> subprocess.Popen[str]:
        flags = [f"--checkpoints={steps}/tiny/step2", f"--statements={steps}/mine.csv", f"--out={steps}/{out}"]
        return start(ROOT / "launch/trace.py", *flags, **environment)

    def tables(out: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((steps / out / "metrics").glob("*.parquet"))}

    without = trace("without", JAX_ENABLE_COMPILATION_CACHE="false")
    first, _, _ = finish(trace("first"))
    assert first[0] > 0
    second, _, err = finish(trace("second"))
    assert second == [0, sum(first)]
    assert "cpu_aot_loader" not in err  # XLA's false alarm about the machine
    assert finish(without)[0] == [0, 0]
    assert tables("without") == tables("first") == tables("second")
    assert len(tables("second")) == 1


def test_the_folder_is_private_and_one_for_a_machine_of_this_kind(settings, cache):
    folder = compilation.use_cache()
    assert folder == cache / "jtrace/compiled" / compilation.machine_digest()
    assert settings["jax_compilation_cache_dir"] == str(folder)
    assert {path.stat().st_mode & 0o777 for path in (folder, *list(folder.parents)[:2])} == {0o700}


@pytest.mark.parametrize("opened", ["jtrace", "jtrace/compiled"])
def test_a_folder_that_others_can_write_to_is_not_used(settings, cache, capsys, opened):
    compilation.use_cache()
    settings["jax_compilation_cache_dir"] = None
    (cache / opened).chmod(0o770)
    assert compilation.use_cache() is None
    assert settings["jax_compilation_cache_dir"] is None
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {cache / opened}: others can write to it")
    assert told.count("\n") == 1


def test_neither_is_another_users(settings, cache, capsys, monkeypatch):
    compilation.use_cache()
    settings["jax_compilation_cache_dir"] = None
    monkeypatch.setattr(compilation.os, "geteuid", lambda: 12345)
    assert compilation.use_cache() is None
    assert "belongs to another user" in capsys.readouterr().err


def test_without_a_place_to_write_a_line_tells_and_the_command_goes_on(settings, tmp_path, cache, capsys):
    cache.write_text("a file where a folder should be")
    assert compilation.use_cache() is None
    told = capsys.readouterr().err
    assert "programs are compiled anew each time" in told
    assert told.count("\n") == 1


def test_jaxs_own_settings_take_precedence(settings, tmp_path, cache):
    settings["jax_compilation_cache_dir"] = str(tmp_path / "mine")
    assert compilation.use_cache() == tmp_path / "mine"
    settings["jax_enable_compilation_cache"] = False
    assert compilation.use_cache() is None
    assert not cache.exists()


def test_another_number_of_cores_has_a_folder_of_its_own(monkeypatch):
    digest = compilation.machine_digest()
    assert compilation.machine_digest() == digest
    monkeypatch.setattr(compilation.os, "sched_getaffinity", lambda pid: {0} | set(range(10, 20)), raising=False)
    assert compilation.machine_digest() != digest


def test_so_has_another_cpu(monkeypatch):
    digest = compilation.machine_digest()
    monkeypatch.setattr(compilation, "_cpu_facts", lambda: {"model name: another"})
    assert compilation.machine_digest() != digest


@pytest.mark.alone
def test_a_damaged_program_is_compiled_anew_once_and_nothing_is_said(three, start):
    counts, folder, _ = finish(start(three))
    assert counts == [3, 0]
    damaged = next(Path(folder).glob("jit_cumsum-*"))
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert finish(start(three))[::2] == ([1, 2], "")
    assert finish(start(three))[::2] == ([0, 3], "")


@pytest.mark.alone
def test_several_processes_at_once_and_a_killed_one_leave_a_whole_cache(three, start, cache):
    several = [start(three) for _ in range(3)]
    killed = start(three)
    deadline = time.monotonic() + 60
    while not any(cache.glob("jtrace/compiled/*/jit_*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert {sum(finish(process)[0]) for process in several} == {3}
    assert finish(start(three))[::2] == ([0, 3], "")


def test_what_was_not_read_for_longest_goes_first(tmp_path):
    for day, name in enumerate(["old", "used", "new"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program").write_bytes(bytes(100))
        os.utime(tmp_path / name / "program", (1e9 + day, 1e9))
    os.utime(tmp_path / "used/program", (2e9, 1e9))
    compilation._trim(tmp_path, 300)
    assert len(list(tmp_path.rglob("program"))) == 3
    compilation._trim(tmp_path, 250)
    assert not (tmp_path / "old/program").exists()
    compilation._trim(tmp_path, 100)
    assert [path.parent.name for path in tmp_path.rglob("program")] == ["used"]


def test_a_full_disk_is_told_once_and_other_warnings_as_ever(tmp_path, capsys):
    told = []
    shown = compilation._mending(tmp_path, lambda message, *rest: told.append(str(message)))
    for program in ("jit_f", "jit_g"):
        text = f"Error writing persistent compilation cache entry for '{program}': OSError: no space"
        shown(UserWarning(text), UserWarning, "compiler.py", 1)
    shown(UserWarning("something else"), UserWarning, "other.py", 2)
    assert capsys.readouterr().err == f"warning: compiled programs cannot be kept in {tmp_path} (OSError: no space)\n"
    assert told == ["something else"]


@pytest.mark.parametrize(("held", "released"), [(40, False), (60, True)])
def test_programs_are_given_back_before_no_memory_map_is_left(tmp_path, monkeypatch, held, released):
    (tmp_path / "maps").write_text("7f00-7f01 r-xp\n" * held)
    (tmp_path / "most").write_text("100\n")
    monkeypatch.setattr(compilation, "MAPS", tmp_path / "maps")
    monkeypatch.setattr(compilation, "MOST_MAPS", tmp_path / "most")
    cleared = []
    monkeypatch.setattr(compilation.jax, "clear_caches", lambda: cleared.append(True))
    release_programs()
    assert cleared == [True] * released


def test_where_nothing_tells_of_maps_programs_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "MAPS", tmp_path / "none")
    monkeypatch.setattr(compilation.jax, "clear_caches", lambda: pytest.fail("cleared"))
    release_programs()
