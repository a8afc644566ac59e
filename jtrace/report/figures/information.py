"""Mutual information: over layers, over pre-training, and the information plane."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jtrace.dynamics.trajectory import Trajectory, briefly_named, evenly_chosen
from jtrace.report.figures.probes import draw_over_training
from jtrace.report.figures.style import (
    MARKERS,
    MOST_LINES,
    MOST_MARKERS,
    clipped,
    draw_band,
    label_outer,
    layer_lines,
    panel_grid,
    place_legend,
    place_text,
    plain,
    set_title,
    tick_room,
)
from jtrace.report.format import measure

METRICS = {"mi_xt": "I(X;T)", "mi_yt": "I(Y;T)"}
BOUND = "mi_yt_bound"  # in nats
# Of `sound`: what is left when the mean of permuted rows is taken away.
EXCESS = {"mi_xt_excess": measure("mi_xt_excess"), "mi_yt_excess": measure("mi_yt_excess")}
NULL_COLOUR, NULL_LABEL = "0.55", "null, mean and 95 %"


def information_over_layers(metrics: pd.DataFrame) -> Figure:
    """A row per set; a line per checkpoint, up to six of them, over the last checkpoint's null.

    Args:
        metrics: with `checkpoint` as in `with_checkpoints`.
    """
    named = briefly_named(metrics)
    lines = layer_lines(named)

    def draw(ax: Axes, rows: pd.DataFrame, null: pd.DataFrame) -> None:
        last = null[null["checkpoint"] == null["checkpoint"].max()].sort_values("layer")
        _null_strip(ax, last.set_index("layer"))
        for name, style in lines.items():
            line = rows[rows["checkpoint"] == name].sort_values("layer")
            draw_band(ax, line["layer"], line, style["color"])
            ax.plot(line["layer"], line["value"], label=plain(name), **style)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    figure, axes = _rows_of_panels(named, draw)
    label_outer(axes, "layer")
    handles, labels = _legend(axes)
    if len(labels) > 1:
        place_legend(figure, handles, labels)
    return figure


def information_over_checkpoints(trajectory: Trajectory) -> Figure:
    """A row per set; a line per layer, up to six of them, over the nulls of the drawn layers together."""
    chosen = evenly_chosen(sorted(trajectory.rows["layer"].unique()), MOST_LINES)

    def draw(ax: Axes, rows: pd.DataFrame, null: pd.DataFrame) -> None:
        of_drawn = null[null["layer"].isin(chosen)].groupby("at")
        if trajectory.model:
            _null_strip(ax, of_drawn.agg({"value": "median", "ci_low": "min", "ci_high": "max"}))
        draw_over_training(ax, trajectory, rows, chosen)

    figure, axes = _rows_of_panels(trajectory.rows, draw, tick_room(trajectory))
    label_outer(axes, trajectory.axis)
    place_legend(figure, *_legend(axes))
    return figure


def _rows_of_panels(
    metrics: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame, pd.DataFrame], None], room: float = 0
) -> tuple[Figure, list[Axes]]:
    """I(X;T), I(Y;T) and, where it was measured, the bound in nats beside each other, each panel with its own scale.

    Args:
        draw: takes a panel, the rows of its metric and those of the metric's null.
    """
    datasets = list(dict.fromkeys(metrics["dataset"]))
    shown = [*METRICS, *([BOUND] if (metrics["metric"] == BOUND).any() else [])]
    figure, axes = panel_grid(len(shown) * len(datasets), height=1.75, columns=len(shown), share_y=False, room=room)
    for at, ax in enumerate(axes):
        dataset, metric = datasets[at // len(shown)], shown[at % len(shown)]
        rows = metrics[metrics["dataset"] == dataset]
        # Layer 0 is X itself, beside which the null and all other layers would be one line.
        if metric == "mi_xt" and (rows["metric"] == "mi_xt_null").any() and rows["layer"].nunique() > 2:
            rows = rows[rows["layer"] > 0]
        draw(ax, rows[rows["metric"] == metric], rows[rows["metric"] == f"{metric}_null"])
        # Three panels a row leave no room for the dimension thrice.
        title = f"bound, {clipped(dataset)}" if metric == BOUND else f"{METRICS[metric]}, {set_title(metrics, dataset)}"
        ax.set_title(plain(title))
        ax.set_ylabel(METRICS.get(metric, "I(Y;T) at least, nats"))
        if metric == BOUND:
            ax.axhline(0, color="0.4", linewidth=0.8, zorder=0)
    return figure, axes


def _null_strip(ax: Axes, null: pd.DataFrame) -> None:
    """Mean and band of what permuted rows give, over the index."""
    if len(null):
        at = null.index.to_numpy(float)
        low, high = (null[end].to_numpy(float) for end in ("ci_low", "ci_high"))
        ax.fill_between(at, low, high, color=NULL_COLOUR, alpha=0.35, linewidth=0, label=NULL_LABEL, zorder=0)
        ax.plot(at, null["value"], color=NULL_COLOUR, linewidth=0.8, zorder=0.5)


def _legend(axes: list[Axes]) -> tuple[list[Artist], list[str]]:
    """Every line once, the null last."""
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = sorted(entries, key=lambda label: label == NULL_LABEL)
    return [entries[label] for label in labels], labels


def information_plane(trajectory: Trajectory) -> Figure:
    """A path per layer from the first checkpoint to the last, its colour the place in the order of checkpoints.

    At most `MOST_MARKERS` checkpoints, evenly chosen: a path with more of them is a tangle. Where nulls are known, both
    axes are above them.
    """
    datasets = list(dict.fromkeys(trajectory.rows["dataset"]))
    shown = EXCESS if set(EXCESS) <= set(trajectory.rows["metric"]) else METRICS
    layers = sorted(trajectory.rows["layer"].unique())
    # Layer 0 is X itself: its I(X;T) has another scale than all others.
    chosen = evenly_chosen([layer for layer in layers if layer > 0] or layers, MOST_LINES)
    names = evenly_chosen(trajectory.checkpoints, MOST_MARKERS)
    time = Normalize(0, len(names) - 1)
    figure, axes = panel_grid(len(datasets), height=2.1, share_x=False, share_y=False)
    for ax, dataset in zip(axes, datasets, strict=True):
        rows = trajectory.rows[trajectory.rows["dataset"] == dataset]
        wide = rows[rows["metric"].isin(shown) & rows["checkpoint"].isin(names)].pivot_table(
            index=["layer", "checkpoint"], columns="metric", values="value", observed=True
        )
        for number, layer in enumerate(chosen):
            if layer in wide.index.get_level_values("layer"):
                _path(ax, wide.loc[layer].reindex(columns=list(shown)).dropna(), names, time, MARKERS[number])
        ax.set_title(plain(set_title(rows, dataset)))
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.margins(0.08)
    label_outer(axes, *shown.values())
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
