"""Figures of a run, built from its tables and log alone: PNG for the screen, PDF for print.

Each is drawn only where its data is there; files are named after what they show and the protocol.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from jtrace.dynamics.trajectory import Trajectory, trajectories
from jtrace.report.figures.choice import MOST_SETS, choice_note, chosen_sets
from jtrace.report.figures.draw_steering import draw_steering
from jtrace.report.figures.draw_transfer import draw_transfer
from jtrace.report.figures.dynamics import draw_dynamics
from jtrace.report.figures.metrics import draw_agreement, draw_over_layers, draw_over_training, draw_projections
from jtrace.report.figures.pipeline import pipeline
from jtrace.report.figures.style import STYLE, Drawn, file_part, save
from jtrace.runs.log import CheckpointTiming, overlap, read
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.steering_files import reported
from jtrace.runtime.atomic import sweep_up

__all__ = ["FIGURES", "Drawn", "draw_all", "draw_steered"]

FIGURES = "figures"  # a run's folder of them
# Above this only the target's own vectors and each task's strongest other are drawn over strengths.
MOST_SWEEPS = 12


def draw_all(
    run: RunDirectory, metrics: pd.DataFrame, most_sets: int = MOST_SETS, folder: Path | None = None
) -> list[Drawn]:
    """Draw every figure that a run has data for.

    Args:
        metrics: the run's tables as one, as `read_metrics` returns them.
        most_sets: of more statement sets than these, those of `chosen_sets` are shown, and captions say so.
        folder: where to; the run's folder `figures` if None.

    Raises:
        InputError: a table of projections, of dynamics or of steering is damaged, or the log cannot be read.
    """
    folder, shown, note = _prepared(folder or run.path / FIGURES, metrics, most_sets)
    steering = run.read_steering()
    with mpl.rc_context(STYLE):
        return [
            *(replace(drawn, caption=drawn.caption + note) for drawn in _of_sets(run, shown, steering, folder)),
            *draw_steering(steering, folder, MOST_SWEEPS),
            *_pipeline(read(run.log_path), folder),
        ]


def draw_steered(run: RunDirectory, metrics: pd.DataFrame, most_sets: int = MOST_SETS) -> list[Drawn]:
    """Draw those figures alone that change as a model is steered; arguments and errors as in `draw_all`."""
    folder, shown, note = _prepared(run.path / FIGURES, metrics, most_sets)
    steering = run.read_steering()
    with mpl.rc_context(STYLE):
        agreements = [drawn for _, rows in shown.groupby("protocol") for drawn in _agreement(rows, steering, folder)]
        return [
            *(replace(drawn, caption=drawn.caption + note) for drawn in agreements),
            *draw_steering(steering, folder, MOST_SWEEPS),
        ]


def _prepared(folder: Path, metrics: pd.DataFrame, most_sets: int) -> tuple[Path, pd.DataFrame, str]:
    """The folder of figures, the rows of the sets that are shown, and a note where they are not all."""
    folder.mkdir(exist_ok=True)
    sweep_up(folder)
    sets = chosen_sets(metrics, most_sets)
    return folder, metrics[metrics["dataset"].isin(sets)], choice_note(len(sets), metrics["dataset"].nunique())


def _of_sets(run: RunDirectory, metrics: pd.DataFrame, steering: pd.DataFrame, folder: Path) -> Iterator[Drawn]:
    """The figures with a panel, a row or a column for each set of `metrics`."""
    for protocol, rows in metrics.groupby("protocol"):
        curves = _curves(rows)
        for name, curve in curves.items():
            yield from draw_over_training(curve, name, folder)
        yield from draw_over_layers(rows, f"{protocol}", folder)
        yield from draw_projections(run, rows, curves, f"{protocol}", folder)
        yield from _agreement(rows, steering, folder)
    yield from draw_dynamics(run, metrics, folder)
    yield from draw_transfer(run, metrics, folder)


def _agreement(rows: pd.DataFrame, steering: pd.DataFrame, folder: Path) -> Iterator[Drawn]:
    for name, curve in _curves(rows).items():
        yield from draw_agreement(curve, reported(steering), name, folder)


def _curves(rows: pd.DataFrame) -> dict[str, Trajectory]:
    """The models' trajectories under one protocol, by what files are named after."""
    protocol, curves = rows["protocol"].iloc[0], trajectories(rows)
    return {protocol if len(curves) == 1 else f"{protocol}_{file_part(curve.model)}": curve for curve in curves}


def _pipeline(passages: Sequence[CheckpointTiming], folder: Path) -> Iterator[Drawn]:
    overlapped = overlap(passages)
    if len(passages) < 2 or overlapped is None:
        return
    yield Drawn(
        save(pipeline(passages), folder / "pipeline"),
        "pipeline",
        "Fetching, reading and computing over time",
        f"Bars over time, a lane per stage: {len(passages)} checkpoints; the wall time is {overlapped.ratio:.2f} × "
        f"that of the slowest stage, {overlapped.slowest}.",
        "A bar per checkpoint in each lane, neighbours in two shades; a checkpoint has the same shade in all lanes. "
        "Compute is all that the device does: extracting, statistics, and tasks where they are asked. A sweep is as "
        "fast as it can be where its slowest lane has no gaps. Time in which no command ran is cut out.",
    )
