"""Write the report of a run: one HTML page with its tables and figures, to be opened from disk.

    python launch/report.py --run=runs/smollm2

Works on any run directory, finished or not, also while a sweep writes into it, and says at the top how many checkpoints
are there so far. Draws the figures anew; takes some ten seconds for a dozen checkpoints.
"""

from pathlib import Path

from absl import flags

from jtrace import cli
from jtrace.report import write_report

RUN = flags.DEFINE_string("run", None, "Run directory, as launch/trace.py writes it.", required=True)
OUT = flags.DEFINE_string("out", None, "File to write; report.html in the run directory by default.")


def main() -> int:
    print(write_report(Path(RUN.value), Path(OUT.value) if OUT.value else None))
    return 0


if __name__ == "__main__":
    cli.run(main)
