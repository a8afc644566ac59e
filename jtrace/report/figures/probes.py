"""Probe accuracy: over layers, over pre-training, and over both as a map. One panel per statement set."""

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jtrace.dynamics.trajectory import BY_CHECKPOINT, Trajectory, briefly_named, evenly_chosen
from jtrace.report.figures.style import (
    MOST_LINES,
    brief_names,
    clipped,
    draw_band,
    label_outer,
    layer_lines,
    line_style,
    panel_grid,
    place_legend,
    plain,
    rounded,
    set_title,
    tick_room,
    training_axis,
)

LEVELS = (("text_accuracy", "text only", "--", "#222222"), ("majority_accuracy", "chance", ":", "#666666"))
# Probes that what is asked of the model cannot help, under `sound`.
CONTROLS = (
    ("random_init_accuracy", "random initialisation", (0, (5, 1.5, 1, 1.5)), "#D55E00"),
    ("control_accuracy", "control task", (0, (1, 1)), "#CC79A7"),
)


def accuracy_over_layers(metrics: pd.DataFrame) -> Figure:
    """A line per checkpoint, up to six of them.

    Args:
        metrics: with `checkpoint` as in `with_checkpoints`.
    """
    named = briefly_named(metrics)
    lines = layer_lines(named)
    datasets = list(dict.fromkeys(named["dataset"]))
    figure, axes = panel_grid(len(datasets))
    for ax, dataset in zip(axes, datasets, strict=True):
        rows = named[named["dataset"] == dataset]
        probes = rows[rows["metric"] == "probe_accuracy"]
        for name, style in lines.items():
            line = probes[probes["checkpoint"] == name].sort_values("layer")
            draw_band(ax, line["layer"], line, style["color"])
            ax.plot(line["layer"], line["value"], label=plain(name), **style)
        draw_levels(ax, rows)
        for metric, label, dashes, colour in CONTROLS:
            control = rows[rows["metric"] == metric]
            line = control[control["checkpoint"] == control["checkpoint"].max()].sort_values("layer")
            if len(line):
                ax.plot(line["layer"], line["value"], linestyle=dashes, color=colour, linewidth=1, label=label)
        ax.set_title(plain(set_title(rows, dataset)))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    label_outer(axes, "layer", "probe accuracy")
    place_legend(figure, *_legend(axes))
    return figure


def accuracy_over_checkpoints(trajectory: Trajectory) -> Figure:
    """A line per layer, up to six of them; probes that nothing can help stand at their own best layer."""
    datasets = list(dict.fromkeys(trajectory.rows["dataset"]))
    chosen = evenly_chosen(sorted(trajectory.rows["layer"].unique()), MOST_LINES)
    figure, axes = panel_grid(len(datasets), room=tick_room(trajectory))
    for ax, dataset in zip(axes, datasets, strict=True):
        rows = trajectory.rows[trajectory.rows["dataset"] == dataset]
        probes = rows[rows["metric"] == "probe_accuracy"]
        draw_over_training(ax, trajectory, probes, chosen)
        draw_levels(ax, rows)
        for metric, label, dashes, colour in CONTROLS:
            by_layer = rows[rows["metric"] == metric].groupby("layer")["value"].median()
            if len(by_layer):
                ax.axhline(by_layer.max(), linestyle=dashes, color=colour, linewidth=1, label=label, zorder=1)
        ax.set_title(plain(set_title(rows, dataset)))
    label_outer(axes, trajectory.axis, "probe accuracy")
    place_legend(figure, *_legend(axes))
    return figure


def draw_over_training(ax: Axes, trajectory: Trajectory, rows: pd.DataFrame, layers: list[int]) -> None:
    """One metric of one set, a line per layer; points of different models are not joined."""
    for number, layer in enumerate(layers):
        line = rows[rows["layer"] == layer].sort_values("at")
        style = line_style(number, len(layers), len(line))
        draw_band(ax, line["at"], line, style["color"], joined=bool(trajectory.model))
        ax.plot(line["at"], line["value"], "-" if trajectory.model else "", label=f"layer {layer}", **style)
    training_axis(ax, trajectory)


def draw_levels(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw what needs no model as horizontal lines; where the table has no word on it, chance is a half."""
    for metric, label, dashes, colour in LEVELS:
        values = rows.loc[rows["metric"] == metric, "value"]
        if len(values):
            ax.axhline(values.median(), linestyle=dashes, color=colour, linewidth=1, label=label, zorder=1)
        elif metric == "majority_accuracy":
            ax.axhline(0.5, linestyle=dashes, color=colour, linewidth=1, label=label, zorder=1)


def accuracy_maps(trajectory: Trajectory) -> Figure:
    """Layers × checkpoints, checkpoints evenly spaced, one colour scale."""
    datasets = list(dict.fromkeys(trajectory.rows["dataset"]))
    probes = trajectory.rows[trajectory.rows["metric"] == "probe_accuracy"]
    low, high = min(0.5, probes["value"].min()), max(0.55, probes["value"].max())
    figure, axes = panel_grid(len(datasets), height=1.7, room=tick_room(trajectory))
    for ax, dataset in zip(axes, datasets, strict=True):
        grid = (
            probes[probes["dataset"] == dataset]
            .pivot_table(index="layer", columns="checkpoint", values="value", observed=False)
            .sort_index()
        )
        image = ax.imshow(grid, aspect="auto", origin="lower", cmap="viridis", vmin=low, vmax=high)
        image.set_interpolation("nearest")
        ax.grid(False)
        ax.set_title(plain(set_title(trajectory.rows, dataset)))
        _ticks(ax, trajectory, [int(layer) for layer in grid.index])
    label_outer(axes, f"{trajectory.axis} (evenly spaced)" if len(datasets) < 3 else trajectory.axis, "layer")
    figure.colorbar(image, ax=figure.axes, label="probe accuracy", shrink=0.9, pad=0.02)
    return figure


def _ticks(ax: Axes, trajectory: Trajectory, layers: list[int]) -> None:
    at = evenly_chosen(range(len(trajectory.checkpoints)), 4)
    if trajectory.axis != BY_CHECKPOINT:
        ax.set_xticks(at, [rounded(trajectory.places[i]) for i in at])
    else:
        names = brief_names(trajectory)
        ax.set_xticks(at, [plain(clipped(names[i])) for i in at], rotation=40, ha="right")
    rows = evenly_chosen(range(len(layers)), 6)
    ax.set_yticks(np.array(rows), [str(layers[i]) for i in rows])


def _legend(axes: list[Axes]) -> tuple[list[Artist], list[str]]:
    """Every line once, whichever panels it is in."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)
