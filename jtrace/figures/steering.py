"""Behaviour and perplexity of a steered model against the strength of steering (the paper's figure 4)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jtrace.dynamics import evenly_chosen
from jtrace.figures.style import MOST_LINES, label_outer, line_style, panel_grid, place_legend, plain

POSITION_LINES = ("-", "--", ":", "-.")


def behaviour_over_strength(steering: pd.DataFrame) -> Figure:
    """A panel per measure of behaviour, a line per layer, up to six of them, with its interval as a band.

    Args:
        steering: of one target and one vector (`vector_from` and `vector_set`).
    """
    measures = list(dict.fromkeys(zip(steering["task"], steering["metric"], strict=True)))
    layers = evenly_chosen(sorted(steering["layer"].unique()), MOST_LINES)
    positions = list(dict.fromkeys(steering["positions"].astype(str)))
    figure, axes = panel_grid(len(measures), share_y=False)
    for ax, (task, metric) in zip(axes, measures, strict=True):
        rows = steering[(steering["task"] == task) & (steering["metric"] == metric)]
        for number, layer in enumerate(layers):
            _draw_layer(ax, rows[rows["layer"] == layer], number, len(layers), positions)
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_title(plain(f"{task}\n{metric}" if len(task) + len(metric) > 28 else f"{task}, {metric}"))
    label_outer(axes, "steering strength")
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place_legend(figure, list(entries.values()), list(entries))
    return figure


def _draw_layer(ax: Axes, rows: pd.DataFrame, number: int, count: int, positions: list[str]) -> None:
    """A line per repeat (seed, protocol) and per positions that were steered; the latter differ in their dashes."""
    for (where, _, _), line in rows.groupby(["positions", "seed", "protocol"], dropna=False, sort=False):
        line = line.sort_values("strength")
        name = f"layer {line['layer'].iloc[0]}" + (f", {where}" if len(positions) > 1 else "")
        style = line_style(number, count, len(line))
        dashes = POSITION_LINES[positions.index(str(where)) % len(POSITION_LINES)]
        ax.plot(line["strength"], line["value"], dashes, label=plain(name), **style)
        known = line.dropna(subset=["ci_low", "ci_high"])
        low, high = known["ci_low"].to_numpy(float), known["ci_high"].to_numpy(float)
        ax.fill_between(known["strength"], low, high, color=style["color"], alpha=0.15, linewidth=0)
