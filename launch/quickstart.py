"""From nothing to a report: `python launch/quickstart.py --help`."""

from jtrace.commands import cli, quickstart

if __name__ == "__main__":
    cli.run(quickstart.main, quickstart.FLAGS, quickstart.__doc__)
