"""Activations projected to two dimensions: early, midway and late in pre-training, coloured by label."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jtrace.report.figures.style import LABEL_COLOURS, panel_grid, place_legend, plain

LABEL_MARKERS = "os"


def projected(points: Mapping[str, pd.DataFrame], layers: Mapping[str, int], titles: Mapping[str, str]) -> Figure:
    """A row per set, a column per checkpoint; a single checkpoint's sets side by side.

    Args:
        points: of each checkpoint as it is to be called, in order; columns `dataset, layer, label, x, y`.
        layers: of each set, the layer to show.
        titles: of each set.
    """
    figure, axes = panel_grid(
        len(points) * len(layers),
        height=1.95,
        columns=len(points) if len(points) > 1 else 3,
        share_x=False,
        share_y=False,
    )
    panels = [(dataset, name) for dataset in layers for name in points]
    for ax, (dataset, name) in zip(axes, panels, strict=True):
        table = points[name]
        shown = table[(table["dataset"] == dataset) & (table["layer"] == layers[dataset])]
        for label, colour in enumerate(LABEL_COLOURS):
            of_label = shown[shown["label"] == label]
            ax.scatter(
                of_label["x"], of_label["y"], s=7, alpha=0.6, c=colour, marker=LABEL_MARKERS[label], linewidths=0
            )
        title = f"{titles[dataset]}, layer {layers[dataset]}"
        ax.set_title(plain(title if len(points) == 1 else f"{title}\n{name}"))
        ax.tick_params(labelbottom=False, labelleft=False, length=0)
    place_legend(figure, *_legend())
    return figure


def _legend() -> tuple[list[Line2D], list[str]]:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5)
        for colour, marker in zip(LABEL_COLOURS, LABEL_MARKERS, strict=True)
    ]
    return handles, ["label 0", "label 1"]
