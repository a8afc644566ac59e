"""Trustworthiness unsteered and steered, dimension by dimension."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jtrace.evaluation.task_facts import LOWER_IS_BETTER, dimension_of
from jtrace.report.figures.style import panel_grid, place_legend, plain
from jtrace.steering.effects import BEST, OWN, RANDOM, UNSTEERED
from jtrace.steering.results import Estimate

# Okabe and Ito's; told apart in grey as well.
LOOKS: dict[str, dict[str, Any]] = {
    UNSTEERED: {"color": "#D9D9D9", "edgecolor": "0.3"},
    OWN: {"color": "#0072B2", "edgecolor": "0.2"},
    BEST: {"color": "#E69F00", "edgecolor": "0.2"},
    RANDOM: {"color": "white", "edgecolor": "0.45", "hatch": "////"},
}
CHARACTERS = 106  # of labels beside each other below a page-wide panel
MOST_GROUPS = 6


def behaviour_by_dimension(groups: Mapping[tuple[str, str], Mapping[str, Estimate]]) -> Figure:
    """A group of bars per task, with intervals: a bar per role that is there.

    Args:
        groups: by task and metric, estimates by role as `jtrace.steering.effects.compared` returns them; not empty.
    """
    pairs = list(groups)
    widest = max(len(line) for pair in pairs for line in _title(*pair).split("\n"))
    rows = -(-len(pairs) // min(MOST_GROUPS, CHARACTERS // (widest + 1) or 1))
    per_row = -(-len(pairs) // rows)
    roles = [role for role in LOOKS if any(role in estimates for estimates in groups.values())]
    figure, axes = panel_grid(rows, height=2.5 / 1.4, columns=1, share_x=False)
    if len(pairs) > 2:
        figure.set_figwidth(7.2)
    width = 0.8 / len(roles)
    for row, ax in enumerate(axes):
        shown = pairs[row * per_row : (row + 1) * per_row]
        for number, role in enumerate(roles):
            known = [(at, groups[pair][role]) for at, pair in enumerate(shown) if role in groups[pair]]
            places = np.array([at for at, _ in known]) + (number - (len(roles) - 1) / 2) * width
            values = np.array([(one.value, one.ci_low, one.ci_high) for _, one in known]).reshape(-1, 3)
            bars = np.abs(values[:, 1:].T - values[:, 0])
            ax.bar(places, values[:, 0], 0.92 * width, label=role, linewidth=0.6, **LOOKS[role])
            ax.errorbar(places, values[:, 0], yerr=bars, fmt="none", ecolor="0.1", elinewidth=0.8, capsize=1.8)
        ax.set_xticks(range(len(shown)), [_title(*pair) for pair in shown])
        ax.set_xlim(-0.6, per_row - 0.4)
        ax.tick_params(axis="x", length=0)
        ax.grid(False, axis="x")
        ax.set_axisbelow(True)
        ax.set_ylabel("value of the metric")
    place_legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def _title(task: str, metric: str) -> str:
    dimension = dimension_of(task)
    names = [dimension] * bool(dimension) + [
        f"{task}, {metric}" if len(task) + len(metric) < 20 else f"{task},\n{metric}"
    ]
    return plain("\n".join(names + ["(lower is better)"] * (metric in LOWER_IS_BETTER)))
