"""Write the report of a run: `python launch/report.py --help`."""

from jtrace.commands import cli, report

if __name__ == "__main__":
    cli.run(report.main, report.FLAGS, report.__doc__)
