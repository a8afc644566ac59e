"""Whether behaviour follows what probes find, over checkpoints (the paper's figure 5)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jtrace.figures.style import panel_grid, plain


def correlations(table: pd.DataFrame) -> Figure:
    """A panel per statement set, a row per measure of behaviour: Pearson's r with its interval and n.

    Args:
        table: as `dynamics.agreement` returns it; not empty.
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
