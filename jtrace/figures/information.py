"""Mutual information: over layers, over pre-training, and the information plane."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jtrace.dynamics import Trajectory, briefly_named, evenly_chosen
from jtrace.figures.probes import draw_over_training
from jtrace.figures.style import (
    MARKERS,
    MOST_LINES,
    MOST_MARKERS,
    clipped,
    label_outer,
    layer_lines,
    panel_grid,
    place_legend,
    place_text,
    plain,
    set_title,
    tick_room,
)

METRICS = {"mi_xt": "I(X;T)", "mi_yt": "I(Y;T)"}


def information_over_layers(metrics: pd.DataFrame) -> Figure:
    """A row per set; a line per checkpoint, up to six of them.

    Args:
        metrics: with `checkpoint` as in `with_checkpoints`.
    """
    named = briefly_named(metrics)
    lines = layer_lines(named)

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        for name, style in lines.items():
            line = rows[rows["checkpoint"] == name].sort_values("layer")
            ax.plot(line["layer"], line["value"], label=plain(name), **style)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    figure, axes = _both(named, draw)
    label_outer(axes, "layer")
    handles, labels = axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        place_legend(figure, handles, labels)
    return figure


def information_over_checkpoints(trajectory: Trajectory) -> Figure:
    """A row per set; a line per layer, up to six of them."""
    chosen = evenly_chosen(sorted(trajectory.rows["layer"].unique()), MOST_LINES)
    figure, axes = _both(
        trajectory.rows, lambda ax, rows: draw_over_training(ax, trajectory, rows, chosen), tick_room(trajectory)
    )
    label_outer(axes, trajectory.axis)
    place_legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def _both(
    metrics: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], None], room: float = 0
) -> tuple[Figure, list[Axes]]:
    """I(X;T) on the left, I(Y;T) on the right, each panel with its own scale."""
    datasets = list(dict.fromkeys(metrics["dataset"]))
    figure, axes = panel_grid(2 * len(datasets), height=1.75, columns=2, share_y=False, room=room)
    for at, ax in enumerate(axes):
        dataset, metric = datasets[at // 2], list(METRICS)[at % 2]
        draw(ax, metrics[(metrics["dataset"] == dataset) & (metrics["metric"] == metric)])
        ax.set_title(plain(f"{METRICS[metric]}, {set_title(metrics, dataset)}"))
        ax.set_ylabel(METRICS[metric])
    return figure, axes


def information_plane(trajectory: Trajectory) -> Figure:
    """A path per layer from the first checkpoint to the last, its colour the place in the order of checkpoints.

    At most `MOST_MARKERS` checkpoints, evenly chosen: a path with more of them is a tangle.
    """
    datasets = list(dict.fromkeys(trajectory.rows["dataset"]))
    layers = sorted(trajectory.rows["layer"].unique())
    # Layer 0 is X itself: its I(X;T) has another scale than all others.
    chosen = evenly_chosen([layer for layer in layers if layer > 0] or layers, MOST_LINES)
    names = evenly_chosen(trajectory.checkpoints, MOST_MARKERS)
    time = Normalize(0, len(names) - 1)
    figure, axes = panel_grid(len(datasets), height=2.1, share_x=False, share_y=False)
    for ax, dataset in zip(axes, datasets, strict=True):
        rows = trajectory.rows[trajectory.rows["dataset"] == dataset]
        wide = rows[rows["metric"].isin(METRICS) & rows["checkpoint"].isin(names)].pivot_table(
            index=["layer", "checkpoint"], columns="metric", values="value", observed=True
        )
        for number, layer in enumerate(chosen):
            if layer in wide.index.get_level_values("layer"):
                _path(ax, wide.loc[layer].reindex(columns=list(METRICS)).dropna(), names, time, MARKERS[number])
        ax.set_title(plain(set_title(rows, dataset)))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.margins(0.08)
    label_outer(axes, METRICS["mi_xt"], METRICS["mi_yt"])
    bar = figure.colorbar(ScalarMappable(time, "viridis"), ax=figure.axes, shrink=0.9, pad=0.02)
    ends = evenly_chosen(range(len(names)), 3)
    bar.set_ticks(ends, labels=[plain(clipped(place_text(trajectory, names[i]))) for i in ends])
    place_legend(
        figure,
        [Line2D([], [], color="0.4", marker=MARKERS[i], markersize=6) for i in range(len(chosen))],
        [f"layer {layer}" for layer in chosen],
    )
    return figure


def _path(ax: Axes, points: pd.DataFrame, names: list[str], time: Normalize, marker: str) -> None:
    """Checkpoints as a coloured path, the last one large."""
    if points.empty:
        return
    at = np.array([names.index(name) for name in points.index.astype(str)])
    places, colours = points.to_numpy(float), colormaps["viridis"](time(at))
    segments = np.stack([places[:-1], places[1:]], axis=1)
    ax.add_collection(LineCollection(list(segments), colors=list(colours[1:]), linewidths=1.2))
    x, y = places.T
    ax.scatter(x[:-1], y[:-1], s=12, c=colours[:-1], marker=marker, linewidths=0)
    ax.scatter(x[-1:], y[-1:], s=48, c=colours[-1:], marker=marker, edgecolors="black", linewidths=0.8, zorder=3)
