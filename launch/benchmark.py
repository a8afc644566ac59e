"""Measure jtrace beside its peers: `python launch/benchmark.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("benchmark")
