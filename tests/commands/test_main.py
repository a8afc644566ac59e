"""`jtrace COMMAND`: which commands there are, and what is no command."""

import os
import subprocess
import sys

import pytest

from jtrace.commands import main as program
from tests.conftest import ROOT


def called(monkeypatch, *words):
    """Returns the arguments that `cli.run` is called with."""
    calls = []
    monkeypatch.setattr(sys, "argv", ["anything", *words])
    monkeypatch.setattr(program.cli, "run", lambda *args, **options: calls.append((args, options)))
    program.main()
    return calls


def test_every_launch_script_is_a_command():
    assert sorted(path.stem for path in (ROOT / "launch").glob("*.py")) == sorted(program.COMMANDS)


@pytest.mark.parametrize("name", program.COMMANDS)
def test_a_command_is_run_with_its_own_flags(monkeypatch, name):
    (((main, values, about), options),) = called(monkeypatch, name, "--out=x")

    assert main.__module__ == f"jtrace.commands.{name}"
    assert "out" in values or name in ("chat", "harness")
    assert f"jtrace {name}" in about
    assert options == {"words": name in ("benchmark", "harness"), "named": True}
    # Words of another tool are not read by jtrace.
    assert sys.argv == ["jtrace", name, *(["--"] if name == "harness" else []), "--out=x"]


@pytest.mark.parametrize("words", [(), ("help",), ("--help",), ("-h",)])
def test_without_a_command_all_are_listed(monkeypatch, capsys, words):
    assert called(monkeypatch, *words) == []
    said = capsys.readouterr().out
    assert all(f"jtrace {name} " in said for name in program.COMMANDS)


def test_what_is_no_command_is_said_in_a_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        called(monkeypatch, "tarce")
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: 'tarce' is no command; there are trace, steer, ")


@pytest.mark.slow
def test_it_runs_as_a_module(tmp_path):
    def jtrace(*words):
        command = [sys.executable, "-P", "-m", "jtrace", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    (tmp_path / "random.py").write_text("raise SystemError('imported')")
    assert jtrace("report", "--run=nowhere").stderr.startswith("error: nowhere: no run directory")
    assert jtrace("trace", "more", "--checkpoints=a", "--statements=b", "--out=c").stderr == (
        "error: 'more' is not a flag; write --flag=value, and see --help\n"
    )
    assert "--checkpoints" in jtrace("trace", "--help").stdout
