"""Write the report of a run: one HTML page with its tables and figures, to be opened from disk.

    jtrace report --run=runs/smollm2

Works on any run directory, finished or not, also while a sweep writes into it, and says at the top how many checkpoints
are there so far. Makes tables of the course of pre-training and
figures anew; takes up to a minute for a dozen checkpoints, five sets and both protocols.
"""

import sys
from pathlib import Path

from absl import flags

from jtrace.dynamics.write import write_course
from jtrace.errors import InputError
from jtrace.report.build import write_report
from jtrace.runs.run_directory import RunDirectory

FLAGS = flags.FlagValues()
RUN = flags.DEFINE_string("run", None, "Run directory, as jtrace trace writes it.", required=True, flag_values=FLAGS)
OUT = flags.DEFINE_string("out", None, "File to write; report.html in the run directory by default.", flag_values=FLAGS)


def main() -> int:
    run = RunDirectory(Path(RUN.value))
    run.record()  # what is no run is not written into
    try:
        write_course(run, run.read_metrics())
    except InputError as error:  # a file is damaged, or a sweep replaces it at this moment
        print(f"warning: the tables of dynamics stay as they are: {error}", file=sys.stderr)
    print(write_report(run.path, Path(OUT.value) if OUT.value else None))
    return 0
