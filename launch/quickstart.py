"""From nothing to a report: `python launch/quickstart.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("quickstart")
