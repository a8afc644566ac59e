"""Behaviour and perplexity of a steered model against the strength of steering (the paper's figure 4)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jtrace.dynamics.trajectory import evenly_chosen
from jtrace.evaluation.task_facts import CAPABILITY, LOWER_IS_BETTER, is_trust, main_metric
from jtrace.report.figures.style import (
    MOST_LINES,
    label_outer,
    line_style,
    measure_title,
    panel_grid,
    place_legend,
    plain,
    plain_powers,
)
from jtrace.runs.steering_files import AUXILIARY
from jtrace.steering.results import SteeredRows

MOST_PANELS = 9
POSITION_LINES = ("-", "--", ":", "-.")
CONTROL_LINES = {"random": (0, (4, 2)), "shuffled": (0, (1, 1.5))}
# Measures that stay where only main metrics are shown: they say what a gain is worth.
ALWAYS = ("unparsable", "perplexity")


def behaviour_over_strength(steered: Sequence[SteeredRows], controls: Sequence[SteeredRows]) -> Figure:
    """A panel per measure of behaviour, a line per layer, up to six of them, with its interval as a band.

    Above nine panels only each task's main metric is drawn, with unparsable answers and perplexity. Controls are grey.

    Args:
        steered: one vector in one target; several where positions or seeds differ. Not empty.
        controls: of that vector.
    """
    panels = shown_measures(steered)
    numbers = {int(layer) for vector in steered for layer in vector.rows.loc[vector.rows["strength"] != 0, "layer"]}
    layers = evenly_chosen(sorted(numbers), MOST_LINES)
    placements = list(dict.fromkeys(vector.placement for vector in steered))
    figure, axes = panel_grid(len(panels), share_y=False)
    for ax, (task, metric) in zip(axes, panels, strict=True):
        for control in controls:
            for layer in layers:
                _draw_control(ax, control, task, metric, layer)
        for vector in steered:
            dashes = POSITION_LINES[placements.index(vector.placement) % len(POSITION_LINES)]
            where = f", {vector.placement}" if len(placements) > 1 else ""
            for number, layer in enumerate(layers):
                _draw_layer(ax, vector, task, metric, layer, (number, len(layers), dashes, where))
        plain_level = steered[0].unsteered(task, metric)
        if plain_level:
            ax.axhline(plain_level.value, color="0.25", linewidth=0.7, zorder=1, label="unsteered")
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_title(plain(measure_title(task, metric)))
        _value_axis(ax, metric)
    label_outer(axes, "steering strength")
    entries = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    place_legend(figure, list(entries.values()), list(entries))
    return figure


def shown_measures(steered: Sequence[SteeredRows]) -> list[tuple[str, str]]:
    """Task and metric of each panel: trustworthiness, then toxicity beside perplexity, then capability."""
    pairs = [pair for vector in steered for pair in zip(vector.rows["task"], vector.rows["metric"], strict=True)]
    panels = [(task, metric) for task, metric in dict.fromkeys(pairs) if not metric.startswith(AUXILIARY)]
    if len(panels) > MOST_PANELS:
        main = {task: main_metric(task, [metric for name, metric in panels if name == task]) for task, _ in panels}
        panels = [(task, metric) for task, metric in panels if metric in (main[task], *ALWAYS)]
    return sorted(panels, key=_group)


def _group(panel: tuple[str, str]) -> int:
    task, metric = panel
    return 3 if task in CAPABILITY else 2 if not is_trust(task) else int(metric == "toxicity")


def _draw_layer(
    ax: Axes, vector: SteeredRows, task: str, metric: str, layer: int, look: tuple[int, int, str, str]
) -> None:
    number, count, dashes, where = look
    strengths, values = _line(vector, task, metric, layer)
    if not len(strengths):
        return
    style = line_style(number, count, len(strengths))
    ax.plot(strengths, values[:, 0], dashes, label=plain(f"layer {layer}{where}"), **style)
    known = np.isfinite(values).all(axis=1)
    low, high = values[known, 1], values[known, 2]
    ax.fill_between(strengths[known], low, high, color=style["color"], alpha=0.15, linewidth=0)


def _draw_control(ax: Axes, control: SteeredRows, task: str, metric: str, layer: int) -> None:
    strengths, values = _line(control, task, metric, layer)
    if len(strengths):
        dashes, name = CONTROL_LINES[control.control], f"{control.control} control"
        ax.plot(strengths, values[:, 0], linestyle=dashes, color="0.5", linewidth=1.1, label=name, zorder=1.5)


def _line(vector: SteeredRows, task: str, metric: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Strengths [S] ascending and value, ci_low, ci_high [S, 3]; empty where the layer was not steered."""
    known = {
        strength: estimate
        for strength in vector.strengths
        if (estimate := vector.estimate(task, metric, layer, strength))
    }
    if not any(known):
        known = {}
    values = [(one.value, one.ci_low, one.ci_high) for one in known.values()]
    return np.array(list(known), float), np.array(values, float).reshape(-1, 3)


def _value_axis(ax: Axes, metric: str) -> None:
    """Which way is better where it is not upwards; powers where a broken model's perplexity would hide the others."""
    if metric in LOWER_IS_BETTER:
        ax.set_ylabel("lower is better", fontsize="small", color="0.35")
    if metric == "perplexity":
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.get_lines()[:-1]] or [np.ones(1)])
        if np.nanmin(values) > 0 and np.nanmax(values) > 10 * np.nanmin(values):
            ax.set_yscale("log")
            plain_powers(ax.yaxis)
