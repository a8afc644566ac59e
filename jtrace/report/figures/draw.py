"""Figures of a run, built from its tables and log alone: PNG for the screen, PDF for print.

Each is drawn only where its data is there; files are named after what they show and the protocol.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from jtrace.dynamics.trajectory import trajectories
from jtrace.report.figures.draw_steering import draw_steering
from jtrace.report.figures.draw_transfer import draw_transfer
from jtrace.report.figures.dynamics import draw_dynamics
from jtrace.report.figures.metrics import draw_agreement, draw_over_layers, draw_over_training, draw_projections
from jtrace.report.figures.pipeline import pipeline
from jtrace.report.figures.style import STYLE, Drawn, file_part, save
from jtrace.runs.log import CheckpointTiming, overlap, read
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.steering_files import reported

__all__ = ["Drawn", "draw_all"]

# Above this only the target's own vectors and each task's strongest other are drawn over strengths.
MOST_SWEEPS = 12


def draw_all(run: RunDirectory, metrics: pd.DataFrame) -> list[Drawn]:
    """Draw every figure that a run has data for into its folder `figures`.

    Args:
        metrics: the run's tables as one, as `read_metrics` returns them.

    Raises:
        InputError: a table of projections, of dynamics or of steering is damaged, or the log cannot be read.
    """
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    steering = run.read_steering()
    drawn: list[Drawn] = []
    with mpl.rc_context(STYLE):
        for protocol, rows in metrics.groupby("protocol"):
            curves = trajectories(rows)
            names = [f"{protocol}" if len(curves) == 1 else f"{protocol}_{file_part(c.model)}" for c in curves]
            for curve, name in zip(curves, names, strict=True):
                drawn += draw_over_training(curve, name, folder)
            drawn += draw_over_layers(rows, f"{protocol}", folder)
            drawn += draw_projections(run, rows, dict(zip(names, curves, strict=True)), f"{protocol}", folder)
            for curve, name in zip(curves, names, strict=True):
                drawn += draw_agreement(curve, reported(steering), name, folder)
        drawn += draw_dynamics(run, metrics, folder)
        drawn += draw_transfer(run, metrics, folder)
        drawn += draw_steering(steering, folder, MOST_SWEEPS)
        drawn += _pipeline(read(run.log_path), folder)
    return drawn


def _pipeline(passages: Sequence[CheckpointTiming], folder: Path) -> Iterator[Drawn]:
    found = overlap(passages)
    if len(passages) < 2 or found is None:
        return
    yield Drawn(
        save(pipeline(passages), folder / "pipeline"),
        "pipeline",
        "Fetching, reading and computing over time",
        f"Bars over time, a lane per stage: {len(passages)} checkpoints; the wall time is {found.ratio:.2f} × that of "
        f"the slowest stage, {found.slowest}.",
        "A bar per checkpoint in each lane, neighbours in two shades; a checkpoint has the same shade in all lanes. "
        "Compute is all that the device does: extracting, statistics, and tasks where they are asked. A sweep is as "
        "fast as it can be where its slowest lane has no gaps. Time in which no command ran is cut out.",
    )
