"""Measure jtrace beside its peers: `python launch/benchmark.py --help`."""

from jtrace.commands import benchmark, cli

if __name__ == "__main__":
    cli.run(benchmark.main, benchmark.FLAGS, benchmark.__doc__, words=True)
