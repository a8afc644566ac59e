"""Convert a checkpoint: `python launch/convert.py --help`."""

from jtrace.commands import cli, convert

if __name__ == "__main__":
    cli.run(convert.main, convert.FLAGS, convert.__doc__)
