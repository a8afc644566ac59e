"""Figures of a run, built from its metrics table alone: PNG for the screen, PDF for print.

Colours are viridis (legible to colour-blind readers and in grey), lines carry markers, panels share their axes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from jtrace.whole import written_whole

METRIC_NAMES = {
    "probe_accuracy": "probe accuracy",
    "mi_xt": "I(X;T), nHSIC",
    "mi_yt": "I(Y;T), nHSIC",
}
MOST_LINES = 6
WIDEST_LABEL = 24  # characters of a legend that stands beside the panels
Value = TypeVar("Value")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def draw_all(metrics: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw every figure that the table has data for.

    Args:
        metrics: columns as in the run directory's tables.
        folder: where the files go; it exists.

    Returns:
        The PNG files; each has a PDF beside it.
    """
    drawn = []
    for protocol, rows in metrics.groupby("protocol"):
        ordered = _briefly_named(with_checkpoints(rows))
        for view, panel in (("layers", _over_layers), ("checkpoints", _over_checkpoints)):
            if view == "checkpoints" and ordered["checkpoint"].nunique() < 2:
                continue
            for name, wanted in (("probe_accuracy", ["probe_accuracy"]), ("information", ["mi_xt", "mi_yt"])):
                stem = folder / f"{name}_over_{view}_{protocol}"
                drawn.append(_save(_grid(ordered, wanted, panel), stem))
    return drawn


def with_checkpoints(metrics: pd.DataFrame) -> pd.DataFrame:
    """The table with a `checkpoint` column, categorical in pre-training order: by model, then step."""
    metrics = metrics.reset_index(drop=True)
    named = metrics["model"] + np.where(metrics["revision"] == "", "", "@" + metrics["revision"])
    order = metrics.assign(checkpoint=named).sort_values(["model", "step", "revision"], na_position="last")[
        "checkpoint"
    ]
    return metrics.assign(checkpoint=pd.Categorical(named, order.unique(), ordered=True))


def _briefly_named(metrics: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints called as short as tells them apart: by the revision alone, or without the organisation."""
    names = list(metrics["checkpoint"].cat.categories)
    by_revision = [name.rpartition("@")[2] for name in names]
    without_organisation = [name.rpartition("/")[2] for name in names]
    one_model = metrics["model"].nunique() == 1 and (metrics["revision"] != "").all()
    brief = by_revision if one_model else without_organisation
    if len(set(brief)) < len(names):
        return metrics
    return metrics.assign(checkpoint=metrics["checkpoint"].cat.rename_categories(brief))


def evenly_chosen(values: Sequence[Value], most: int = MOST_LINES) -> list[Value]:
    """At most `most` of the values, first and last included, evenly spread."""
    picks = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[i] for i in picks]


def _grid(metrics: pd.DataFrame, wanted: Sequence[str], panel: Callable[[Axes, pd.DataFrame], None]) -> Figure:
    """One column per statement set, one row per metric, one legend."""
    datasets = list(dict.fromkeys(metrics["dataset"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 2.9 * len(datasets), 0.9 + 2.3 * len(wanted)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(wanted), len(datasets), squeeze=False, sharex=True, sharey="row")
        for row, metric in zip(axes, wanted, strict=True):
            for ax, dataset in zip(row, datasets, strict=True):
                panel(ax, metrics[(metrics["dataset"] == dataset) & (metrics["metric"] == metric)])
            row[0].set_ylabel(METRIC_NAMES[metric])
        for ax in axes[:-1].flat:
            ax.set_xlabel("")
        for ax, dataset in zip(axes[0], datasets, strict=True):
            dimension = metrics.loc[metrics["dataset"] == dataset, "dimension"].iloc[0]
            ax.set_title(_plain(f"{dataset} ({dimension})" if dimension else dataset))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        if len(handles) > 1:
            beside = max(map(len, labels)) <= WIDEST_LABEL
            figure.legend(
                handles, labels, loc="outside right center" if beside else "outside lower left", frameon=False
            )
            if not beside:
                figure.set_figheight(figure.get_figheight() + 0.2 * len(labels))
        if metrics["model"].nunique() == 1:
            figure.suptitle(_plain(metrics["model"].iloc[0]), fontsize="small")
    return figure


def _over_layers(ax: Axes, rows: pd.DataFrame) -> None:
    """A line per checkpoint, up to six of them."""
    chosen = evenly_chosen(list(rows["checkpoint"].cat.categories))
    for name, colour in zip(chosen, _colours(len(chosen)), strict=True):
        line = rows[rows["checkpoint"] == name].sort_values("layer")
        ax.plot(line["layer"], line["value"], color=colour, marker="o", markersize=3, linewidth=1.3, label=_plain(name))
    ax.set_xlabel("layer")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _over_checkpoints(ax: Axes, rows: pd.DataFrame) -> None:
    """A line per layer, up to six of them, over tokens, steps or, where neither is known, the checkpoints in order."""
    axis, label = _training_axis(rows)
    chosen = evenly_chosen(sorted(rows["layer"].unique()))
    for layer, colour in zip(chosen, _colours(len(chosen)), strict=True):
        at_layer = rows[rows["layer"] == layer].assign(at=axis).sort_values("at")
        for number, (_, line) in enumerate(at_layer.groupby("model", sort=False)):
            style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 3, "linewidth": 1.3}
            ax.plot(line["at"], line["value"], label=f"layer {layer}" if number == 0 else None, **style)
    ax.set_xlabel(label)
    if label == "checkpoint":
        names = list(rows["checkpoint"].cat.categories)
        ax.set_xticks(range(len(names)), [_plain(_clipped(name)) for name in names], rotation=45, ha="right")
    else:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def _training_axis(rows: pd.DataFrame) -> tuple[pd.Series, str]:
    for column, label in (("tokens", "pre-training tokens"), ("step", "pre-training step")):
        known = rows[column].notna().all() and rows["model"].nunique() == 1
        if known and rows.groupby("checkpoint", observed=True)[column].first().is_unique:
            return rows[column].astype(float), label
    return rows["checkpoint"].cat.codes, "checkpoint"


def _clipped(name: str) -> str:
    """Both ends of a name that is too long for an axis."""
    half = WIDEST_LABEL // 2
    return name if len(name) <= WIDEST_LABEL else f"{name[: half - 1]}…{name[-half:]}"


def _plain(name: str) -> str:
    """A name as it is: a dollar sign would begin mathematics."""
    return name.replace("$", r"\$")


def _colours(count: int) -> list[tuple[float, ...]]:
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0, 0.88, count)]


def _save(figure: Figure, stem: Path) -> Path:
    for suffix in (".png", ".pdf"):
        with written_whole(stem.with_suffix(suffix)) as aside:
            figure.savefig(aside, format=suffix[1:], dpi=150)
    return stem.with_suffix(".png")
