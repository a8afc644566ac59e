"""Steer a model: `python launch/steer.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("steer")
