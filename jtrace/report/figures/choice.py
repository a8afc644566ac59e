"""The statement sets that figures show, as each takes a panel."""

import pandas as pd

MOST_SETS = 9  # three rows of three panels
RULE = (
    " {shown} of {all} statement sets: those whose best accuracy differs most between a model's checkpoints, of equals "
    "the first. The other {others} are in the tables."
)


def chosen_sets(metrics: pd.DataFrame, most: int = MOST_SETS) -> list[str]:
    """Choose the sets to show, at most `most`: those of `RULE`, in the table's order.

    Args:
        metrics: columns as in the run directory's tables.
    """
    datasets = list(dict.fromkeys(metrics["dataset"]))
    if len(datasets) <= most:
        return datasets
    probes = metrics[metrics["metric"] == "probe_accuracy"]
    best = probes.groupby(["dataset", "model", "protocol", "revision"], sort=False)["value"].max()
    courses = best.groupby(["dataset", "model", "protocol"], sort=False)
    moved = (courses.max() - courses.min()).groupby("dataset", sort=False).max()
    order = moved.reindex(datasets).sort_values(ascending=False, kind="stable", na_position="last")
    chosen = set(order.index[:most])
    return [dataset for dataset in datasets if dataset in chosen]


def choice_note(shown: int, all_sets: int) -> str:
    """Say which sets a figure or table shows; empty where it shows all."""
    return RULE.format(shown=shown, all=all_sets, others=all_sets - shown) if shown < all_sets else ""
