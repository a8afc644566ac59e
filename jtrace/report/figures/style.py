"""Style that all figures share: size, colours, panels, legends, axes, files.

Made for print at the width of a text page; colours are legible to colour-blind readers and in grey, and lines that must
be told apart carry markers as well.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)

from jtrace.dynamics.trajectory import BY_CHECKPOINT, Trajectory, evenly_chosen
from jtrace.report.format import visible
from jtrace.runtime.atomic import atomic_write
from jtrace.runtime.names import LONGEST
from jtrace.stats.sampling import evenly_spread

WIDTH = 7.2  # inches, of a text page
COLUMNS = 3
MOST_LINES = 6
MOST_MARKERS = 40  # points of a line that markers leave legible
WIDEST_LABEL = 24  # characters
MARKERS = "os^Dv*"
# Okabe and Ito's blue and vermilion, for the two labels.
LABEL_COLOURS = ("#0072B2", "#D55E00")
# For models that were traced once, beside the curve of others.
SINGLE_COLOURS = ("#D55E00", "#CC79A7")
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.markersize": 3.2,
}


@dataclass(frozen=True)
class Drawn:
    """A figure that was drawn.

    Attributes:
        path: the PNG file; a PDF lies beside it.
        section: what it is about: probes, information, projections, dynamics, angles, transfer, comparison, steering,
            agreement or pipeline.
        alt: what it shows, for those who do not see it.
        caption: how to read it.
    """

    path: Path
    section: str
    title: str
    alt: str
    caption: str


def panel_grid(
    count: int, height: float = 1.9, columns: int = COLUMNS, share_x: bool = True, share_y: bool = True, room: float = 0
) -> tuple[Figure, list[Axes]]:
    """A page-wide figure of `count` panels of a height in inches, row by row; `room` inches for long tick labels."""
    columns = min(columns, count)
    rows = -(-count // columns)
    width = WIDTH if columns > 1 else 0.7 * WIDTH
    figure = Figure(figsize=(width, room + rows * (height if columns > 1 else 1.4 * height)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)
    axes = list(grid.flat)
    for at, free in enumerate(axes[count:], count):
        free.set_visible(False)
        axes[at - columns].tick_params(labelbottom=True)
    return figure, axes[:count]


def tick_room(trajectory: Trajectory) -> float:
    """Inches that the slanted tick labels of `training_axis` take beyond those of numbers."""
    if trajectory.axis != BY_CHECKPOINT:
        return 0
    return 0.065 * max(len(clipped(name)) for name in brief_names(trajectory))


def place_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Legend in the grid's free corner where there is one and the labels fit, else below the panels."""
    if not handles:
        return
    free = [ax for ax in figure.axes if not ax.get_visible()]
    widest = max(map(len, labels))
    if free and widest <= WIDEST_LABEL and len(labels) <= 10:
        corner = free[0]
        corner.set_visible(True)
        corner.set_axis_off()
        corner.legend(handles, labels, loc="center", borderaxespad=0)
        return
    columns = max(1, min(len(labels), int(figure.get_figwidth() * 15 // (widest + 7))))
    rows = -(-len(labels) // columns)
    figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(labels) // rows))
    figure.set_figheight(figure.get_figheight() + 0.12 + 0.17 * rows)


def label_outer(axes: Sequence[Axes], x: str, y: str | None = None) -> None:
    """Axis labels on the panels at the rim of the grid alone."""
    spec = axes[0].get_subplotspec()
    columns = spec.get_gridspec().ncols if spec else 1
    for at, ax in enumerate(axes):
        ax.set_xlabel(x if at >= len(axes) - columns else "")
        if y is not None:
            ax.set_ylabel(y if at % columns == 0 else "")


def training_axis(ax: Axes, trajectory: Trajectory) -> None:
    """The x-axis of a curve over pre-training: logarithmic where early checkpoints would be squeezed, 0 included."""
    if trajectory.axis == BY_CHECKPOINT:
        names = brief_names(trajectory)
        picks = evenly_spread(len(names), 8)
        ax.set_xticks(picks, [plain(clipped(names[i])) for i in picks], rotation=40, ha="right")
        return
    places = trajectory.places
    positive = places[places > 0]
    if np.diff(places).min() * (len(places) - 1) < 0.2 * np.ptp(places):
        decades = 10.0 ** np.arange(np.floor(np.log10(positive[0])), np.ceil(np.log10(positive[-1])) + 1)
        # A decade that no checkpoint comes near needs no tick.
        decades = decades[(decades >= positive[0] * 0.99) & (decades <= positive[-1] * 1.5)]
        ticks = decades[:: -(-len(decades) // 4)]
        if places[0] > 0:
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
            ticks = np.concatenate([[0], ticks])
        ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def brief_names(trajectory: Trajectory) -> list[str]:
    """The checkpoints without what they have in common: the model, or the organisation."""
    names = trajectory.checkpoints
    brief = [name.rpartition("@" if trajectory.model else "/")[2] for name in names]
    return brief if len(set(brief)) == len(names) else names


def place_text(trajectory: Trajectory, checkpoint: str) -> str:
    """A checkpoint by its place on the axis: `step 1,000`, `2.1G tokens`, or its name."""
    return at_text(trajectory, trajectory.places[trajectory.checkpoints.index(checkpoint)])


def at_text(trajectory: Trajectory, at: float) -> str:
    """A place on the axis in words; where the axis is the order of checkpoints, the nearest one's name."""
    if trajectory.axis.endswith("step"):
        return f"step {at:,.0f}"
    if trajectory.axis.endswith("tokens"):
        return f"{rounded(at)} tokens"
    names = brief_names(trajectory)
    return names[min(max(round(at), 0), len(names) - 1)]


def span_text(trajectory: Trajectory, low: float, high: float) -> str:
    """An interval on the axis in words, as `step 16 to step 64`; it may be open on the right."""
    if not np.isfinite(low):
        return "no interval"
    if not np.isfinite(high):
        return f"{at_text(trajectory, low)} or later"
    ends = at_text(trajectory, low), at_text(trajectory, high)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def rounded(count: float) -> str:
    """Two or three digits and a unit: `4.1M`, `524k`."""
    scale = 1000 ** (int(np.log10(count)) // 3) if count >= 1 else 1
    return EngFormatter(places=1 if scale > 1 and count / scale < 10 else 0, sep="")(count)


def set_title(rows: pd.DataFrame, dataset: str) -> str:
    """`stereoset (fairness)`; without the dimension where the set is named after it."""
    dimension = rows.loc[rows["dataset"] == dataset, "dimension"].iloc[0]
    return dataset if dimension in dataset else f"{dataset} ({dimension})"


def measure_title(task: str, metric: str) -> str:
    """`stereoset, accuracy`; on two lines where one would not fit above a panel."""
    if task == metric:
        return task
    return f"{task}\n{metric}" if len(task) + len(metric) > 28 else f"{task}, {metric}"


def plain_powers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as numbers: 1, 2, 5, 10."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def line_style(number: int, count: int, points: int) -> dict[str, Any]:
    """Colour and marker of one line among `count` ordered ones; a line of many points is thin and without markers."""
    few = points <= MOST_MARKERS
    return {
        "color": mpl.colormaps["viridis"](0.88 * number / max(count - 1, 1)),
        "marker": MARKERS[number % len(MARKERS)] if few else None,
        "linewidth": 1.3 if few else 0.8,
    }


def draw_band(ax: Axes, x: pd.Series, rows: pd.DataFrame, colour: Any, joined: bool = True) -> None:
    """The intervals `ci_low` to `ci_high` behind a line; bars where points are not `joined`, none where unknown."""
    known = (rows["ci_low"].notna() & rows["ci_high"].notna()).to_numpy()
    at = x.to_numpy(float)[known]
    low, high = (rows[end].to_numpy(float)[known] for end in ("ci_low", "ci_high"))
    if joined and len(at) > 1:
        ax.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    elif len(at):
        ax.vlines(at, low, high, color=colour, alpha=0.5, linewidth=1)


def layer_lines(metrics: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Choose the checkpoints that a figure over layers shows, up to six, with the style of each line.

    Beside models with several checkpoints, those with one, as a fine-tuned one, come last and in a colour of their own.

    Args:
        metrics: with `checkpoint` as in `with_checkpoints`.
    """
    counts = metrics.groupby("model")["checkpoint"].nunique()
    alone = metrics["model"].map(counts) == 1 if counts.max() > 1 else pd.Series(False, metrics.index)
    order = list(metrics["checkpoint"].cat.categories)
    singles = [name for name in order if name in set(metrics.loc[alone, "checkpoint"])][: len(SINGLE_COLOURS)]
    others = set(metrics.loc[~alone, "checkpoint"])
    chosen = evenly_chosen([name for name in order if name in others], MOST_LINES - len(singles))
    points = metrics["layer"].nunique()
    styles = {name: line_style(number, len(chosen), points) for number, name in enumerate(chosen)}
    for name, colour in zip(singles, SINGLE_COLOURS, strict=False):
        styles[name] = {"color": colour, "marker": "x", "linestyle": "-."}
    return styles


def clipped(name: str) -> str:
    """Both ends of a name that is too long for an axis."""
    half = WIDEST_LABEL // 2
    return name if len(name) <= WIDEST_LABEL else f"{name[: half - 1]}…{name[-half:]}"


def plain(name: str) -> str:
    """Write a name as it is: a dollar sign would begin mathematics, and control characters have no shape."""
    return visible(name).replace("$", r"\$")


def file_part(name: str) -> str:
    """Encodes a name as part of a file's name; of a long one the beginning and a digest."""
    plain = "".join(character if character.isalnum() or character in "-_.@" else "-" for character in name)
    if len(plain.encode()) <= LONGEST:
        return plain
    begins = plain.encode()[: LONGEST // 2].decode("utf-8", "ignore")
    return f"{begins}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def save(figure: Figure, stem: Path) -> Path:
    """Write PNG and PDF, the same bytes each time; the PNG's path."""
    figure.draw_without_rendering()
    # Laid out once, not once per file; even "none" has matplotlib draw twice.
    figure.set_layout_engine(None)
    for suffix, options in ((".png", {"dpi": 200}), (".pdf", {"metadata": {"CreationDate": None}})):
        path = stem.parent / (stem.name + suffix)
        with atomic_write(path) as aside:
            figure.savefig(aside, format=suffix[1:], **options)
    return stem.parent / (stem.name + ".png")
