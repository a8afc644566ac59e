"""Trace checkpoints: `python launch/trace.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("trace")
