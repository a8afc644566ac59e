"""Transfer: a probe on other sets and at other checkpoints than it was fitted to."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jtrace.dynamics.trajectory import Trajectory, evenly_chosen
from jtrace.report.figures.cells import write_cells
from jtrace.report.figures.style import brief_names, clipped, label_outer, panel_grid, plain

MOST_TICKS = 5
MOST_CELLS = 8  # of rows and columns whose numbers are written out


def transfer_between_sets(values: np.ndarray, trained: Sequence[str], tested: Sequence[str]) -> Figure:
    """A cell per pair of sets: the AUROC of the row's probe on the column's statements; grey was not measured.

    Args:
        values: [row, column], NaN where there is none.
        trained: names of rows, with their layers.
        tested: names of columns.
    """
    figure, (ax,) = panel_grid(1, height=max(1.9, 0.55 + 0.3 * len(trained)), share_x=False, share_y=False)
    image = ax.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    ax.grid(False)
    ax.set_facecolor("0.85")
    ax.set_xticks(range(len(tested)), [plain(clipped(name)) for name in tested], rotation=30, ha="right")
    ax.set_yticks(range(len(trained)), [plain(clipped(name)) for name in trained])
    if len(trained) <= MOST_CELLS:
        write_cells(ax, values, dark=lambda value: abs(value - 0.5) > 0.33)
    label_outer([ax], "tested on", "probe of")
    figure.colorbar(image, ax=ax, label="AUROC", pad=0.02)
    return figure


def transfer_between_checkpoints(
    transfer: pd.DataFrame, curve: Trajectory, layers: Mapping[str, int], titles: Mapping[str, str]
) -> Figure:
    """A map per set: AUROC of the probe of one checkpoint (upwards) at another one (to the right).

    Args:
        transfer: of one model and protocol, columns as in the run directory's dynamics.
        layers: of each set, the layer to show; the sets that `transfer` has at that layer are drawn, at least one.
        titles: of each set.
    """
    called = dict(zip(curve.checkpoints, brief_names(curve), strict=True))
    grids = {
        dataset: rows.pivot_table(index="trained_at", columns="tested_at", values="auroc")
        for dataset, layer in layers.items()
        if len(rows := transfer[(transfer["dataset"] == dataset) & (transfer["layer"] == layer)])
    }
    figure, axes = panel_grid(len(grids), height=2.2, share_x=False, share_y=False)
    for ax, (dataset, grid) in zip(axes, grids.items(), strict=True):
        names = [name for name in curve.checkpoints if name in grid.index or name in grid.columns]
        values = grid.reindex(index=names, columns=names).to_numpy(float)
        image = ax.imshow(values, origin="lower", cmap="RdBu", vmin=0, vmax=1, aspect="equal")
        image.set_interpolation("nearest")
        ax.grid(False)
        ax.set_facecolor("0.85")
        at = evenly_chosen(range(len(names)), MOST_TICKS)
        labels = [plain(clipped(called[names[i]])) for i in at]
        ax.set_xticks(at, labels, rotation=40, ha="right")
        ax.set_yticks(at, labels)
        if len(names) < MOST_CELLS:
            write_cells(ax, values, dark=lambda value: abs(value - 0.5) > 0.33)
        ax.set_title(plain(f"{titles[dataset]}, layer {layers[dataset]}"))
    label_outer(axes, "tested at", "probe of")
    figure.colorbar(image, ax=figure.axes, label="AUROC", shrink=0.9, pad=0.02)
    return figure
