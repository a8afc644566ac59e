"""Convert a checkpoint: `python launch/convert.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("convert")
