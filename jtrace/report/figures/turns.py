"""Fitting, then compression: the curve of I(X;T) with its peak, and where curves change their course."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jtrace.dynamics.trajectory import Trajectory
from jtrace.report.figures.style import (
    draw_band,
    label_outer,
    panel_grid,
    place_legend,
    plain,
    set_title,
    tick_room,
    training_axis,
)

LEVEL = 0.05  # of p-values, above which a peak is drawn in grey
CURVE_COLOUR, PEAK_COLOUR, CHANGE_COLOUR = "#0072B2", "#D55E00", "0.25"


def turning_points(
    curve: Trajectory, turns: pd.DataFrame, changes: pd.DataFrame | None, layers: Mapping[str, int], label: str
) -> Figure:
    """A panel per set: one metric's curve with band, its peak with interval and p-value, change points at the foot.

    Args:
        turns, changes: of one model, protocol and metric, columns as in the run directory's dynamics.
        layers: of each set, the layer to show; the sets that `turns` has at that layer are drawn, at least one.
        label: of the metric.
    """
    known = {dataset: layer for dataset, layer in layers.items() if len(_at(turns, dataset, layer))}
    figure, axes = panel_grid(len(known), share_y=False, room=tick_room(curve))
    for ax, (dataset, layer) in zip(axes, known.items(), strict=True):
        turn = _at(turns, dataset, layer).iloc[0]
        rows = _at(curve.rows[curve.rows["metric"] == turn["metric"]], dataset, layer).sort_values("at")
        draw_band(ax, rows["at"], rows, CURVE_COLOUR, joined=bool(curve.model))
        few = len(rows) <= 40
        ax.plot(rows["at"], rows["value"], color=CURVE_COLOUR, linewidth=1.2, marker="o" if few else None, label=label)
        _peak(ax, turn)
        if changes is not None:
            _changes(ax, _at(changes, dataset, layer))
        ax.set_title(plain(f"{set_title(curve.rows, dataset)}, layer {layer}"))
        training_axis(ax, curve)
    label_outer(axes, curve.axis, label)
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    place_legend(figure, list(entries.values()), list(entries))
    return figure


def _at(table: pd.DataFrame, dataset: str, layer: int) -> pd.DataFrame:
    return table[(table["dataset"] == dataset) & (table["layer"] == layer)]


def _peak(ax: Axes, turn: pd.Series) -> None:
    clear = turn["p"] <= LEVEL
    colour = PEAK_COLOUR if clear else "0.6"
    if np.isfinite(turn["ci_low"]) and np.isfinite(turn["ci_high"]):
        ax.axvspan(turn["ci_low"], turn["ci_high"], color=colour, alpha=0.12, linewidth=0, zorder=0)
    ax.axvline(turn["at"], color=colour, linewidth=1, zorder=0.5, label="peak" if clear else "peak, no clear turn")
    ax.text(
        0.98, 0.95, f"p = {turn['p']:.3f}", transform=ax.transAxes, ha="right", va="top", fontsize="small",
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _changes(ax: Axes, rows: pd.DataFrame) -> None:
    """Triangles at the foot of the panel, with their intervals."""
    if rows.empty:
        return
    foot = ax.get_xaxis_transform()
    low, high = (rows[end].fillna(rows["at"]).to_numpy(float) for end in ("ci_low", "ci_high"))
    ax.hlines(np.full(len(rows), 0.04), low, high, color=CHANGE_COLOUR, linewidth=1, transform=foot)
    ax.plot(
        rows["at"], np.full(len(rows), 0.04), linestyle="", marker="^", color=CHANGE_COLOUR, markersize=4.5,
        transform=foot, label="change point",
    )  # fmt: skip
