"""Tables for the end of a run: each set at its best layer, checkpoint by checkpoint."""

import numpy as np
import pandas as pd

from jtrace.dynamics.trajectory import with_checkpoints
from jtrace.report.format import spread
from jtrace.report.standings import SetAtLastCheckpoint, standings
from jtrace.steering.effects import effects
from jtrace.steering.results import vectors

COLUMNS: tuple[str, ...] = ("dataset", "checkpoint", "best layer", "accuracy", "AUROC", "I(X;T)", "I(Y;T)")
# Under `sound`; information is above its permutation null, each with its p-value.
SOUND_COLUMNS: tuple[str, ...] = (
    *("dataset", "checkpoint", "best layer", "accuracy", "from", "to", "AUROC"),
    *("I(X;T) − null", "p(X;T)", "I(Y;T) − null", "p(Y;T)"),
)
KEYS = ("dataset", "checkpoint", "protocol", "layer")
PROBE_METRICS = {
    "accuracy": "probe_accuracy",
    "AUROC": "probe_auroc",
    "ECE": "probe_ece",
    "ECE p": "probe_ece_p",
    "text only": "text_accuracy",
    "chance": "majority_accuracy",
    "random init": "random_init_accuracy",
    "control task": "control_accuracy",
}
INFORMATION_METRICS = {
    f"{name}{suffix}": f"{metric}{part}"
    for name, metric in (("I(X;T)", "mi_xt"), ("I(Y;T)", "mi_yt"))
    for suffix, part in (("", ""), (" null", "_null"), (" − null", "_excess"), (" p", "_p"))
} | {"bound (nats)": "mi_yt_bound"}
# Columns that an interval stands beside.
SPREAD = ("accuracy", "I(X;T) − null", "I(Y;T) − null", "bound (nats)")


def best_layers(metrics: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Tabulate a row per set and checkpoint, always at the layer of the highest probe accuracy at the last checkpoint.

    A layer of each checkpoint's own would make a course that jumps because the layer does.

    Args:
        metrics: columns as in the run directory's tables.

    Returns:
        Columns `COLUMNS`, or under `sound` `SOUND_COLUMNS`, checkpoints in pre-training order; values NaN where a
        metric was not measured.
    """
    rows = with_checkpoints(metrics[metrics["protocol"] == protocol])
    index = ["dataset", "checkpoint", "layer"]
    wide = rows.pivot_table(index=index, columns="metric", values="value", observed=True, sort=False)
    if protocol == "sound":
        ends = rows[rows["metric"] == "probe_accuracy"].set_index(index)[["ci_low", "ci_high"]]
        wide = wide.join(ends)
        information = ["mi_xt_excess", "mi_xt_p", "mi_yt_excess", "mi_yt_p"]
        columns, shown = SOUND_COLUMNS, ["probe_accuracy", "ci_low", "ci_high", "probe_auroc", *information]
    else:
        columns, shown = COLUMNS, ["probe_accuracy", "probe_auroc", "mi_xt", "mi_yt"]
    wide = wide.reset_index().reindex(columns=[*index, *shown]).sort_values(index)
    layers = {
        (standing.dataset, name): standing.layer
        for standing in standings(metrics[metrics["protocol"] == protocol])
        for name in (*standing.rows["checkpoint"].unique(), *(standing.curve.left_out if standing.curve else ()))
    }
    held = [layers.get((dataset, name)) == layer for dataset, name, layer in wide[index].to_numpy()]
    best = wide.loc[np.array(held, bool)]
    return best.set_axis(list(columns), axis=1).reset_index(drop=True)


def comparison_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Tabulate each set at each model's last checkpoint: a row per protocol, at its best layer, with baselines.

    Args:
        metrics: columns as in the run directory's tables.

    Returns:
        Columns `KEYS`, then `PROBE_METRICS` and `INFORMATION_METRICS`; after each of `SPREAD` its 95 % interval as
        text. Columns that no row has are left out; NaN or None where a row has no such value. Rows of a set are
        together.
    """
    sets = standings(metrics)
    order = list(dict.fromkeys((standing.model, standing.dataset) for standing in sets))
    rows = [_row(standing) for standing in sorted(sets, key=lambda s: order.index((s.model, s.dataset)))]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else list(KEYS)).dropna(axis=1, how="all")


def in_two(comparison: pd.DataFrame) -> list[pd.DataFrame]:
    """Split `comparison_table` into one of probes and one of information, each with the columns that it has of `KEYS`.

    A column beside an estimate is named briefly, so that names are not unique.
    """
    parts = []
    for metrics in (PROBE_METRICS, INFORMATION_METRICS):
        with_spreads = [column for name in metrics for column in (name, f"{name} 95 %")]
        columns = [name for name in (*KEYS, *with_spreads) if name in comparison]
        parts.append(comparison[columns].rename(columns=_brief))
    return parts


def comparison_text(metrics: pd.DataFrame) -> str:
    """Write `comparison_table` for a terminal: at each checkpoint a table of probes, then one of information."""
    parts: list[str] = []
    comparison = comparison_table(metrics)
    if comparison.empty:
        return ""
    for checkpoint, rows in comparison.groupby("checkpoint", sort=False):
        parts += [f"at {checkpoint}:", *map(as_text, in_two(rows.drop(columns="checkpoint")))]
    return "\n\n".join(parts)


def _brief(column: str) -> str:
    """What stands beside an estimate needs its name no second time."""
    for suffix in ("95 %", " − null", " null", " p"):
        if column.endswith(suffix):
            return {" − null": "above null"}.get(suffix, suffix.strip())
    return column


def _row(standing: SetAtLastCheckpoint) -> dict[str, object]:
    row: dict[str, object] = dict(
        zip(KEYS, (standing.dataset, standing.checkpoint, standing.protocol, standing.layer), strict=True)
    )
    for name, metric in (PROBE_METRICS | INFORMATION_METRICS).items():
        estimate = standing.estimate(metric)
        row[name] = None if estimate is None else estimate.value
        if name in SPREAD:
            known = estimate is not None and estimate.ci_low == estimate.ci_low
            row[f"{name} 95 %"] = spread(estimate, 3) if estimate is not None and known else None
    return row


def steering_effects(steering: pd.DataFrame) -> pd.DataFrame:
    """Tabulate what each vector did to each task at its chosen setting, or under `paper` at its best one.

    Controls have no rows of their own; what a random direction did is a column.

    Args:
        steering: columns as in the run directory's steering tables.
    """
    rows = [
        {
            "task": effect.task,
            "protocol": effect.vector.protocol,
            "vector": str(effect.vector.name),
            "set": effect.vector.dataset,
            "metric": effect.metric,
            "layer": effect.layer,
            "strength": effect.strength,
            "unsteered": effect.unsteered.value,
            "steered": effect.steered.value,
            "gain": effect.gain,
            "beyond interval": {True: "yes", False: "no", None: "–"}[effect.apart],
            "random's gain": effect.control_gain("random"),
            "perplexity ×": effect.perplexity_ratio,
        }
        for effect in effects(vectors(steering))
        if not effect.vector.is_control
    ]
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).dropna(axis=1, how="all").sort_values(["task", "protocol"], kind="stable")


def as_text(table: pd.DataFrame) -> str:
    """Write the table with aligned columns, three decimals."""
    return table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–")
