"""Trace checkpoints: `python launch/trace.py --help`."""

from jtrace.commands import cli, trace

if __name__ == "__main__":
    cli.run(trace.main, trace.FLAGS, trace.__doc__)
