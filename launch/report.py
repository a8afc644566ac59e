"""Write the report of a run: `python launch/report.py --help`."""

from jtrace.commands.main import run

if __name__ == "__main__":
    run("report")
