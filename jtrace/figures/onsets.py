"""Where on the way through pre-training each layer's probe comes to stay above its line."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jtrace.dynamics import Trajectory
from jtrace.figures.style import label_outer, panel_grid, place_legend, plain, tick_room, training_axis

# Okabe and Ito's; marker and shift in layers keep the two apart in grey as well.
LOOKS = {"paper": ("#E69F00", "^", -0.25), "sound": ("#0072B2", "o", 0.25)}
MOST_LARGE = 16  # layers whose dots do not touch


def onsets_by_layer(onsets: pd.DataFrame, curve: Trajectory, titles: Mapping[str, str]) -> Figure:
    """A panel per set, a dot with its interval per layer and protocol; open dots at the rim never come.

    Args:
        onsets: of one model and metric, columns as in the run directory's dynamics; not empty.
        curve: of that model, for the axis.
        titles: of each set.
    """
    datasets = [dataset for dataset in titles if (onsets["dataset"] == dataset).any()]
    size = 3.2 if onsets["layer"].nunique() <= MOST_LARGE else 2.0
    figure, axes = panel_grid(len(datasets), height=2.4, room=tick_room(curve))
    for ax, dataset in zip(axes, datasets, strict=True):
        # All checkpoints are on the axis, wherever the onsets lie.
        ax.plot(curve.places, np.full(len(curve.places), onsets["layer"].min()), linestyle="")
        for protocol, look in LOOKS.items():
            # What is drawn first is larger, so that it is seen where both fall on one place.
            larger = 1.4 if protocol == "paper" else 1
            rows = onsets[(onsets["dataset"] == dataset) & (onsets["protocol"] == protocol)]
            _draw(ax, rows, curve, look, size * larger)
        ax.set_title(plain(titles[dataset]))
        training_axis(ax, curve)
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    label_outer(axes, curve.axis, "layer")
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place_legend(figure, list(entries.values()), list(entries))
    return figure


def _draw(ax: Axes, rows: pd.DataFrame, curve: Trajectory, look: tuple[str, str, float], size: float) -> None:
    """One protocol's rows of a set."""
    if rows.empty:
        return
    colour, marker, shift = look
    protocol = rows["protocol"].iloc[0]
    comes = (rows["checkpoint"] != "").to_numpy()
    at, layers = rows["at"].to_numpy(float)[comes], rows["layer"].to_numpy(float) + shift
    low, high = (rows[end].to_numpy(float)[comes] for end in ("ci_low", "ci_high"))
    # Open on the right is an interval that leaves open whether the onset comes at all.
    left, right = np.where(np.isfinite(low), low, at), np.where(np.isfinite(high), high, curve.places[-1])
    ax.hlines(layers[comes], left, right, color=colour, linewidth=0.9, alpha=0.55)
    dots: dict[str, Any] = {"linestyle": "", "marker": marker, "color": colour, "markersize": size}
    if comes.any():
        ax.plot(at, layers[comes], label=protocol, **dots)
    if not comes.all():
        rim = np.full(int((~comes).sum()), 1.02)
        dots |= {"fillstyle": "none", "markeredgewidth": 0.8, "clip_on": False, "label": f"{protocol}, never"}
        ax.plot(rim, layers[~comes], transform=ax.get_yaxis_transform(), **dots)
