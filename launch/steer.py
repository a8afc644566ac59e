"""Steer a model: `python launch/steer.py --help`."""

from jtrace.commands import cli, steer

if __name__ == "__main__":
    cli.run(steer.main, steer.FLAGS, steer.__doc__)
