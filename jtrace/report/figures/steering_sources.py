"""Gains of each source checkpoint's vector over strengths, and their costs: who steers best."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jtrace.checkpoints.names import in_order
from jtrace.dynamics.trajectory import evenly_chosen
from jtrace.evaluation.task_facts import LOWER_IS_BETTER
from jtrace.report.figures.style import (
    COLUMNS,
    MARKERS,
    MOST_LINES,
    clipped,
    label_outer,
    measure_title,
    panel_grid,
    place_legend,
    plain,
    plain_powers,
)

OWN_COLOUR = "#D55E00"
COSTS = {"perplexity_ratio": "perplexity, × unsteered", "capability_change": "change of capability (accuracy)"}
MOST_TICKS = 12


def gain_maps(gains: pd.DataFrame, target: str) -> Figure:
    """A map per task of checkpoint × strength: the gain of the main metric, positive (blue) where it is better.

    A dot marks gains and losses that are `apart`. Each panel has its own scale, centred at 0.

    Args:
        gains: as `jtrace.steering.effects.gains` returns them; not empty.
        target: called `own` where it is a source itself.
    """
    panels = [rows for _, rows in gains.groupby(["task", "metric"], sort=False)]
    names = brief_sources(set(gains["source"]), target)
    figure, axes = panel_grid(
        len(panels), height=max(1.9, 0.6 + 0.13 * min(len(names), MOST_TICKS)), share_x=False, share_y=False
    )
    for at, (ax, rows) in enumerate(zip(axes, panels, strict=True)):
        table = rows.pivot_table(index="source", columns="strength", values="gain", sort=False)
        table = table.reindex(list(names)).sort_index(axis=1)
        apart = rows.pivot_table(index="source", columns="strength", values="apart", aggfunc="max", sort=False)
        apart = apart.reindex(index=table.index, columns=table.columns).fillna(0).astype(bool)
        most = max(float(np.nanmax(np.abs(table.to_numpy(float)))), 1e-3)
        image = ax.imshow(table, aspect="auto", origin="lower", cmap="RdBu", vmin=-most, vmax=most)
        image.set_interpolation("nearest")
        y, x = np.nonzero(apart.to_numpy())
        ax.scatter(x, y, s=6, c="black", edgecolors="white", linewidths=0.5)
        ax.grid(False)
        ax.set_facecolor("0.85")  # of cells that were not measured or could not be judged
        ax.set_title(plain(_title(rows)))
        _ticks(ax, list(names.values()), [float(strength) for strength in table.columns], labelled=at % COLUMNS == 0)
        figure.colorbar(image, ax=ax, pad=0.03, aspect=18).ax.tick_params(labelsize="small")
    label_outer(axes, "steering strength")
    return figure


def trade_offs(gains: pd.DataFrame, target: str, cost: str) -> Figure:
    """A panel per task: the gain of the main metric against a cost, a point per checkpoint and strength.

    Points of a checkpoint are joined in the order of their strengths; strength 0 is the hollow point.

    Args:
        gains: as in `gain_maps`; rows without the cost are left out, some row has it.
        cost: `perplexity_ratio` or `capability_change`.
    """
    known = gains.dropna(subset=[cost])
    panels = [rows for _, rows in known.groupby(["task", "metric"], sort=False)]
    names = brief_sources(set(known["source"]), target)
    others = [name for name in names if name != target]
    legend = [*evenly_chosen(others, MOST_LINES), target]
    figure, axes = panel_grid(len(panels), share_y=False)
    for ax, rows in zip(axes, panels, strict=True):
        for number, name in enumerate(names):
            line = rows[rows["source"] == name].sort_values("strength")
            at = others.index(name) if name in others else 0
            colour = colormaps["viridis"](0.88 * at / max(len(others) - 1, 1)) if name in others else OWN_COLOUR
            marker = MARKERS[number % len(MARKERS)] if name in others else "X"
            label = plain(clipped(names[name])) if name in legend else None
            ax.plot(line[cost], line["gain"], "-", color=colour, linewidth=0.6, alpha=0.5)
            ax.plot(line[cost], line["gain"], linestyle="", marker=marker, markersize=3.6, color=colour, label=label)
        ax.plot([1 if cost == "perplexity_ratio" else 0], [0], "o", color="black", fillstyle="none", markersize=6)
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        if cost == "perplexity_ratio" and known[cost].max() > 5:
            ax.set_xscale("log")
            plain_powers(ax.xaxis)
        ax.set_title(plain(_title(rows)))
    label_outer(axes, COSTS[cost], "gain (up is better)")
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place_legend(figure, list(entries.values()), list(entries))
    return figure


def brief_sources(sources: Collection[str], target: str) -> dict[str, str]:
    """Checkpoints without what they have in common, in order; the target itself is `own` and comes last."""
    others = in_order([name for name in sources if name != target])
    brief = [name.rpartition("@")[2] for name in others]
    if len({name.rpartition("@")[0] for name in others}) > 1 or len(set(brief)) < len(others):
        brief = [name.rpartition("--")[2] for name in others]
    if len(set(brief)) < len(others):
        brief = others
    return dict(zip(others, brief, strict=True)) | ({target: "own"} if target in sources else {})


def _title(rows: pd.DataFrame) -> str:
    task, metric = rows["task"].iloc[0], rows["metric"].iloc[0]
    return measure_title(task, metric) + (" (less is gain)" if metric in LOWER_IS_BETTER else "")


def _ticks(ax: Axes, names: Sequence[str], strengths: Sequence[float], labelled: bool) -> None:
    rows = evenly_chosen(range(len(names)), MOST_TICKS)
    ax.set_yticks(rows, [plain(clipped(names[i])) for i in rows] if labelled else [""] * len(rows))
    columns = evenly_chosen(range(len(strengths)), 5)
    ax.set_xticks(columns, [f"{strengths[i]:g}".replace("-", "−") for i in columns])
