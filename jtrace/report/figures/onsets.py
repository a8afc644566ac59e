"""Onsets: the checkpoint from which on each layer's probe stays above its line."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jtrace.dynamics.trajectory import Trajectory
from jtrace.report.figures.style import label_outer, panel_grid, place_legend, plain, tick_room, training_axis

COLOUR = "#0072B2"  # Okabe and Ito's
MOST_LARGE = 16  # layers whose dots do not touch


def onsets_by_layer(onsets: pd.DataFrame, curve: Trajectory, titles: Mapping[str, str]) -> Figure:
    """A panel per set, a dot with its interval per layer; open dots at the rim are of layers that are not clear.

    Args:
        onsets: of one model, protocol and metric, columns as in the run directory's dynamics; not empty.
        curve: of that model, for the axis.
        titles: of each set.
    """
    datasets = [dataset for dataset in titles if (onsets["dataset"] == dataset).any()]
    size = 3.2 if onsets["layer"].nunique() <= MOST_LARGE else 2.0
    figure, axes = panel_grid(len(datasets), height=2.4, room=tick_room(curve))
    for ax, dataset in zip(axes, datasets, strict=True):
        # All checkpoints are on the axis, wherever the onsets lie.
        ax.plot(curve.places, np.full(len(curve.places), onsets["layer"].min()), linestyle="")
        _draw(ax, onsets[onsets["dataset"] == dataset], curve, size)
        ax.set_title(plain(titles[dataset]))
        training_axis(ax, curve)
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    label_outer(axes, curve.axis, "layer")
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place_legend(figure, list(entries.values()), list(entries))
    return figure


def _draw(ax: Axes, rows: pd.DataFrame, curve: Trajectory, size: float) -> None:
    """The rows of a set."""
    comes = (rows["checkpoint"] != "").to_numpy()
    at, layers = rows["at"].to_numpy(float)[comes], rows["layer"].to_numpy(float)
    low, high = (rows[end].to_numpy(float)[comes] for end in ("ci_low", "ci_high"))
    # Open on the right is an interval that leaves open whether the onset comes at all.
    left, right = np.where(np.isfinite(low), low, at), np.where(np.isfinite(high), high, curve.places[-1])
    ax.hlines(layers[comes], left, right, color=COLOUR, linewidth=0.9, alpha=0.55)
    dots: dict[str, Any] = {"linestyle": "", "marker": "o", "color": COLOUR, "markersize": size}
    if comes.any():
        ax.plot(at, layers[comes], label="onset", **dots)
    if not comes.all():
        rim = np.full(int((~comes).sum()), 1.02)
        dots |= {"fillstyle": "none", "markeredgewidth": 0.8, "clip_on": False, "label": "not clear"}
        ax.plot(rim, layers[~comes], transform=ax.get_yaxis_transform(), **dots)
