"""Angles of steering vectors: cosines between checkpoints, layers and sets, and principal angles over training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jtrace.dynamics.trajectory import Trajectory, evenly_chosen
from jtrace.report.figures.cells import write_cells
from jtrace.report.figures.style import (
    MOST_LINES,
    clipped,
    label_outer,
    line_style,
    panel_grid,
    place_legend,
    plain,
    tick_room,
    training_axis,
)

MOST_TICKS = 5
MOST_NUMBERS = 7  # of rows and columns whose cells are written out


@dataclass(frozen=True)
class SquareMap:
    """A table of pairs as a square: values[i, j] of names[i] and names[j], NaN where there is none."""

    title: str
    names: Sequence[str]
    values: np.ndarray


def square(
    title: str, names: Sequence[str], pairs: Mapping[tuple[str, str], float], called: Sequence[str]
) -> SquareMap:
    """A map of all pairs of `names`, which are `called` so; a pair counts both ways round, a name with itself is 1."""
    values = np.full((len(names), len(names)), np.nan)
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            cosine = pairs.get((one, other), pairs.get((other, one), np.nan))
            values[i, j] = 1.0 if i == j and np.isnan(cosine) else cosine
    return SquareMap(title, list(called), values)


def cosine_maps(maps: Sequence[SquareMap], axis: str) -> Figure:
    """A panel per map, one scale from −1 to 1; small maps have their numbers written in."""
    figure, axes = panel_grid(len(maps), height=2.2, share_x=False, share_y=False)
    for ax, shown in zip(axes, maps, strict=True):
        image = ax.imshow(shown.values, origin="lower", cmap="RdBu", vmin=-1, vmax=1, aspect="equal")
        image.set_interpolation("nearest")
        ax.grid(False)
        ax.set_facecolor("0.85")  # of pairs that were not compared
        ax.set_title(plain(shown.title))
        _ticks(ax, shown.names)
        if len(shown.names) <= MOST_NUMBERS:
            write_cells(ax, shown.values, dark=lambda value: abs(value) > 0.65)
    label_outer(axes, axis, axis)
    figure.colorbar(image, ax=figure.axes, label="cosine", shrink=0.9, pad=0.02)
    return figure


def _ticks(ax: Axes, names: Sequence[str]) -> None:
    at = evenly_chosen(range(len(names)), MOST_NUMBERS if len(names) <= MOST_NUMBERS else MOST_TICKS)
    labels = [plain(clipped(names[i])) for i in at]
    long = max(map(len, labels)) > 4
    ax.set_xticks(at, labels, rotation=40 if long else 0, ha="right" if long else "center")
    ax.set_yticks(at, labels)


def angles_over_training(subspaces: pd.DataFrame, curve: Trajectory) -> Figure:
    """Principal angles, in degrees, between the span of all sets' vectors at each checkpoint and at the last one.

    Args:
        subspaces: of one model and layer, columns as in the run directory's dynamics; not empty.
    """
    places = dict(zip(curve.checkpoints, curve.places, strict=True))
    numbers = evenly_chosen(sorted(subspaces["number"].unique()), MOST_LINES)
    figure, (ax,) = panel_grid(1, room=tick_room(curve))
    for at, number in enumerate(numbers):
        rows = subspaces[(subspaces["number"] == number) & subspaces["checkpoint"].isin(places)]
        rows = rows.assign(at=rows["checkpoint"].map(places)).sort_values("at")
        ax.plot(rows["at"], rows["degrees"], "-", label=f"angle {number}", **line_style(at, len(numbers), len(rows)))
    ax.set_title(f"layer {subspaces['layer'].iloc[0]}")
    training_axis(ax, curve)
    ax.set_ylim(-3, 93)
    ax.set_yticks([0, 30, 60, 90])
    label_outer([ax], curve.axis, "degrees from the last checkpoint")
    place_legend(figure, *ax.get_legend_handles_labels())
    return figure
