"""What a person reads at the end of a run: per set and checkpoint the best layer and what was measured there."""

import pandas as pd

from jtrace.behaviour import vectors
from jtrace.dynamics import with_checkpoints
from jtrace.effects import effects

COLUMNS = ("dataset", "checkpoint", "best layer", "accuracy", "AUROC", "I(X;T)", "I(Y;T)")


def best_layers(metrics: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One row per set and checkpoint: the layer of the highest probe accuracy (the lowest such layer), and its values.

    Args:
        metrics: columns as in the run directory's tables.

    Returns:
        Columns `COLUMNS`, checkpoints in pre-training order; values NaN where a metric was not measured.
    """
    rows = with_checkpoints(metrics[metrics["protocol"] == protocol])
    wide = rows.pivot_table(
        index=["dataset", "checkpoint", "layer"], columns="metric", values="value", observed=True, sort=False
    ).reset_index()
    wide = wide.reindex(columns=["dataset", "checkpoint", "layer", "probe_accuracy", "probe_auroc", "mi_xt", "mi_yt"])
    wide = wide.sort_values(["dataset", "checkpoint", "layer"])
    best = wide.loc[wide.groupby(["dataset", "checkpoint"], observed=True)["probe_accuracy"].idxmax()]
    return best.set_axis(list(COLUMNS), axis=1).reset_index(drop=True)


def steering_effects(steering: pd.DataFrame) -> pd.DataFrame:
    """One row per task, protocol and vector: what it did at its chosen setting, or under `paper` at its best one.

    Controls have no rows of their own; what a random direction did is a column.

    Args:
        steering: columns as in the run directory's steering tables.
    """
    found = effects(vectors(steering))
    rows = [
        {
            "task": effect.task,
            "protocol": effect.vector.protocol,
            "vector": effect.vector.source + (f":{effect.vector.kind}" if effect.vector.kind else ""),
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
        for effect in found
        if not effect.vector.is_control
    ]
    if not rows:
        return pd.DataFrame()
    return pd.DataFrame(rows).dropna(axis=1, how="all").sort_values(["task", "protocol"], kind="stable")


def as_text(table: pd.DataFrame) -> str:
    """The table with aligned columns, three decimals."""
    return table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–")
