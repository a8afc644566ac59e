"""Correlations over checkpoints: of probes and behaviour (the paper's figure 5), and of any two measures."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jtrace.report.figures.style import panel_grid, place_legend, plain
from jtrace.report.format import measure

# By column of the table: name, marker, colour (Okabe and Ito's).
KINDS = {
    "pearson": ("Pearson's r", "o", "#0072B2"),
    "spearman": ("Spearman's ρ", "s", "#E69F00"),
    "changes": ("Pearson's r of changes", "^", "#009E73"),
}


def correlations(table: pd.DataFrame) -> Figure:
    """A panel per statement set, a row per measure of behaviour: Pearson's r, n, and the interval where there is one.

    Args:
        table: as `jtrace.dynamics.trajectory.agreement` returns it; not empty.
    """
    datasets = list(dict.fromkeys(table["dataset"]))
    measures = list(dict.fromkeys(zip(table["task"], table["metric"], strict=True)))
    height = 0.75 + 0.24 * len(measures)
    figure, axes = panel_grid(len(datasets), height=height, columns=2 if len(datasets) > 1 else 1)
    for ax, dataset in zip(axes, datasets, strict=True):
        rows = table[table["dataset"] == dataset]
        at = np.array([measures.index(pair) for pair in zip(rows["task"], rows["metric"], strict=True)])
        r = rows["r"].to_numpy(float)
        bars = np.maximum([r - rows["ci_low"], rows["ci_high"] - r], 0)
        ax.errorbar(r, at, xerr=bars, fmt="o", color="#0072B2", capsize=2.5, markersize=4.5)
        for y, n in zip(at, rows["n"], strict=True):
            ax.text(1.06, y, f"n = {n}", va="center", fontsize="small", color="0.3")
        ax.axvline(0, color="0.5", linewidth=0.8, zorder=0)
        ax.set_xlim(-1.05, 1.05)
        ax.set_ylim(len(measures) - 0.5, -0.5)
        ax.set_yticks(range(len(measures)), [plain(f"{task}, {metric}") for task, metric in measures])
        ax.set_title(plain(f"{dataset}, layer {rows['layer'].iloc[0]}"))
    for ax in axes[-2:]:
        ax.set_xlabel("Pearson's r of probe accuracy and behaviour")
    return figure


def correlations_of_measures(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """A panel per statement set, a row per pair of measures: each kind of correlation, its interval where there is one.

    Args:
        table: of one model, protocol and layer per set, columns as in the run directory's dynamics; not empty.
        titles: of each set.
    """
    datasets = [dataset for dataset in titles if (table["dataset"] == dataset).any()]
    pairs = list(dict.fromkeys(zip(table["x"], table["y"], strict=True)))
    columns = 2 if len(datasets) > 1 else 1
    figure, axes = panel_grid(len(datasets), height=0.6 + 0.3 * len(pairs), columns=columns)
    for ax, dataset in zip(axes, datasets, strict=True):
        rows = table[table["dataset"] == dataset]
        at = np.array([pairs.index(pair) for pair in zip(rows["x"], rows["y"], strict=True)])
        for number, (kind, (name, marker, colour)) in enumerate(KINDS.items()):
            shift = 0.24 * (number - 1)
            ax.hlines(at + shift, rows[f"{kind}_low"], rows[f"{kind}_high"], color=colour, linewidth=1.2, alpha=0.7)
            ax.plot(rows[kind], at + shift, linestyle="", marker=marker, color=colour, markersize=4, label=name)
        ax.axvline(0, color="0.5", linewidth=0.8, zorder=0)
        ax.set_xlim(-1.05, 1.05)
        ax.set_ylim(len(pairs) - 0.5, -0.5)
        ax.set_yticks(range(len(pairs)), [plain(f"{measure(x)},\n{measure(y)}") for x, y in pairs])
        ax.set_title(plain(titles[dataset]))
    for ax in axes[-columns:]:
        ax.set_xlabel("correlation over checkpoints")
    place_legend(figure, *axes[0].get_legend_handles_labels())
    return figure
