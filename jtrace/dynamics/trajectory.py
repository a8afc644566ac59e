"""Metrics over pre-training: checkpoints in order, each model's curve, and correlations along it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
import pandas as pd

from jtrace.runtime.names import plain_name
from jtrace.stats.correlation import of_changes, pearson, spearman
from jtrace.stats.sampling import evenly_spread

AXES = {"tokens": "pre-training tokens", "step": "pre-training step"}
BY_CHECKPOINT = "checkpoint"
CORRELATIONS = ("dataset", "dimension", "layer", "x", "y", "n", *(
    f"{name}{end}" for name in ("pearson", "spearman", "changes") for end in ("", "_low", "_high")
))  # fmt: skip
Value = TypeVar("Value")


@dataclass(frozen=True)
class Trajectory:
    """One model's checkpoints along its pre-training.

    Attributes:
        model: name of the model; empty where every checkpoint is a model of its own, so that they are not one curve.
        rows: rows of the metrics table, with `checkpoint`, categorical in order, and `at`, the place on the axis.
        axis: the unit of `at`; for `BY_CHECKPOINT` that is the position in order.
        left_out: checkpoints of the model whose place on the axis is not known.
    """

    model: str
    rows: pd.DataFrame
    axis: str
    left_out: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints, in order."""
        return list(self.rows["checkpoint"].cat.categories)

    @property
    def places(self) -> np.ndarray:
        """Place of each checkpoint on the axis, float64, ascending."""
        return self.rows.groupby("checkpoint", observed=True)["at"].first().to_numpy(np.float64)


def with_checkpoints(metrics: pd.DataFrame) -> pd.DataFrame:
    """Adds a column `checkpoint`, categorical in pre-training order: by model, then step."""
    metrics = metrics.reset_index(drop=True)
    named = metrics["model"] + np.where(metrics["revision"] == "", "", "@" + metrics["revision"])
    order = metrics.assign(checkpoint=named).sort_values(["model", "step", "revision"], na_position="last")[
        "checkpoint"
    ]
    return metrics.assign(checkpoint=pd.Categorical(named, order.unique(), ordered=True))


def briefly_named(metrics: pd.DataFrame) -> pd.DataFrame:
    """Shortens the checkpoints' names where they stay distinct: to the revision, or without the organisation."""
    names = list(metrics["checkpoint"].cat.categories)
    by_revision = [name.rpartition("@")[2] for name in names]
    without_organisation = [name.rpartition("/")[2] for name in names]
    one_model = metrics["model"].nunique() == 1 and (metrics["revision"] != "").all()
    brief = by_revision if one_model else without_organisation
    if len(set(brief)) < len(names):
        return metrics
    return metrics.assign(checkpoint=metrics["checkpoint"].cat.rename_categories(brief))


def evenly_chosen(values: Sequence[Value], most: int) -> list[Value]:
    """Chooses at most `most` of the values, evenly spread, the first and the last included."""
    return [values[i] for i in evenly_spread(len(values), most)]


def trajectories(metrics: pd.DataFrame) -> list[Trajectory]:
    """Returns the curve of each model that has several checkpoints; a model that was traced once has none.

    Where every model was traced once, all checkpoints are one trajectory, since some projects publish each checkpoint
    as a model of its own.

    Args:
        metrics: columns as in the run directory's tables.
    """
    if metrics.empty:
        return []
    ordered = with_checkpoints(metrics)
    each = ordered.drop_duplicates("checkpoint").sort_values("checkpoint")
    curves = [group for _, group in each.groupby("model", sort=False) if len(group) > 1]
    if not curves and len(each) > 1:
        curves = [each]
    return [_trajectory(ordered, group) for group in curves]


def _trajectory(ordered: pd.DataFrame, checkpoints: pd.DataFrame) -> Trajectory:
    one_model = checkpoints["model"].nunique() == 1
    # Steps of different models are not comparable.
    columns = ["tokens", "step"] if one_model else ["tokens"]
    column = max(columns, key=lambda column: checkpoints[column].notna().sum())
    known = checkpoints[column].notna()
    if known.sum() > 1 and checkpoints.loc[known, column].is_unique and (one_model or known.all()):
        placed = checkpoints[known].sort_values(column)
        places, axis = placed[column].astype(float).to_numpy(), AXES[column]
    else:
        placed, axis = checkpoints, BY_CHECKPOINT
        places = np.arange(len(placed), dtype=float)
    names = placed["checkpoint"].astype(str).to_list()
    rows = ordered[ordered["checkpoint"].isin(names)]
    name = rows["checkpoint"].astype(str)
    rows = rows.assign(
        checkpoint=pd.Categorical(name, names, ordered=True), at=name.map(dict(zip(names, places, strict=True)))
    )
    left_out = tuple(checkpoints.loc[~checkpoints["checkpoint"].isin(names), "checkpoint"].astype(str))
    return Trajectory(checkpoints["model"].iloc[0] if one_model else "", rows, axis, left_out)


def best_layer(rows: pd.DataFrame, dataset: str) -> int | None:
    """Returns the layer of the highest probe accuracy on a set at the last checkpoint; of equal ones, the lowest.

    Args:
        rows: rows with `checkpoint` as in `Trajectory.rows`.

    Returns:
        None where no probe accuracy was measured.
    """
    probes = rows[(rows["dataset"] == dataset) & (rows["metric"] == "probe_accuracy")]
    last = probes[probes["checkpoint"] == probes["checkpoint"].max()].sort_values("layer")
    return None if last.empty else int(last.loc[last["value"].idxmax(), "layer"])


def shared_layer(rows: pd.DataFrame) -> int | None:
    """Returns the layer of the highest mean probe accuracy over sets at the last checkpoint; of equal ones, the lowest.

    Args:
        rows: rows with `checkpoint` as in `Trajectory.rows`.
    """
    probes = rows[rows["metric"] == "probe_accuracy"]
    last = probes[probes["checkpoint"] == probes["checkpoint"].max()]
    means = last.groupby("layer")["value"].mean()
    return None if means.empty else int(means.idxmax())


def agreement(trajectory: Trajectory, steering: pd.DataFrame) -> pd.DataFrame:
    """Correlates probe accuracy with unsteered behaviour over a model's checkpoints.

    Args:
        steering: columns as in the run directory's steering tables; rows of strength 0 whose target is a checkpoint of
            the trajectory are used, each value once.

    Returns:
        A row per set and measure of behaviour: `dataset, layer, task, metric, r, ci_low, ci_high, n`, with the
        layer from `best_layer`; ends are NaN where no interval can be given.
    """
    measures = _behaviour(trajectory, steering)
    rows = []
    for dataset, _ in _sets(trajectory):
        layer = best_layer(trajectory.rows, dataset)
        probed = _curve(trajectory, dataset, layer, "probe_accuracy")
        for (task, metric), behaviour in measures.items():
            correlation = pearson(*_paired(probed, behaviour))
            if correlation is not None:
                rows.append({"dataset": dataset, "layer": layer, "task": task, "metric": metric, **vars(correlation)})
    return pd.DataFrame(rows, columns=["dataset", "layer", "task", "metric", "r", "ci_low", "ci_high", "n"])


def correlations(trajectory: Trajectory, steering: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Correlates several curves of a set's best layer with each other and with unsteered behaviour.

    Args:
        steering: as in `agreement`.
        metrics: names in the metrics table; a measure of behaviour is named `task:metric`.

    Returns:
        The columns `CORRELATIONS`: a row where Pearson, Spearman and Pearson of first differences
        all exist, which takes five checkpoints that have both; ends are NaN where no interval can be given.
    """
    measures = {f"{task}:{metric}": values for (task, metric), values in _behaviour(trajectory, steering).items()}
    rows: list[tuple[object, ...]] = []
    for dataset, dimension in _sets(trajectory):
        layer = best_layer(trajectory.rows, dataset)
        curves = {metric: _curve(trajectory, dataset, layer, metric) for metric in metrics}
        pairs = [*combinations(curves, 2), *((metric, measure) for metric in curves for measure in measures)]
        for x, y in pairs:
            paired = _paired(curves[x], (curves | measures)[y])
            three = [correlated(*paired) for correlated in (pearson, spearman, of_changes)]
            numbers = [number for one in three if one is not None for number in (one.r, one.ci_low, one.ci_high)]
            if all(three):
                rows.append((dataset, dimension, layer, x, y, len(paired[0]), *numbers))
    return pd.DataFrame(rows, columns=list(CORRELATIONS))


def _sets(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """Yields the sets in the table's order, each with its dimension."""
    rows = trajectory.rows.drop_duplicates("dataset")
    yield from zip(rows["dataset"], rows["dimension"], strict=True)


def _curve(trajectory: Trajectory, dataset: str, layer: int | None, metric: str) -> pd.Series:
    """Returns a metric's values by checkpoint, in order."""
    rows = trajectory.rows
    chosen = rows[(rows["dataset"] == dataset) & (rows["metric"] == metric) & (rows["layer"] == layer)]
    chosen = chosen.sort_values("checkpoint")
    return chosen.set_index(chosen["checkpoint"].astype(str))["value"]


def _behaviour(trajectory: Trajectory, steering: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Returns measures of unsteered behaviour by task and metric: the values by checkpoint of the trajectory."""
    plain = steering[steering["strength"] == 0]
    # Behaviour may be measured under another protocol than probes.
    other = ~plain["protocol"].isin(trajectory.rows["protocol"].unique())
    plain = plain.assign(metric=plain["metric"].where(~other, plain["metric"] + " (" + plain["protocol"] + ")"))
    target = plain["target"].astype(str).map(plain_name)
    by_file_name = {plain_name(name): name for name in trajectory.checkpoints}
    plain = plain.assign(checkpoint=target.map(by_file_name)).dropna(subset="checkpoint")
    values = plain.groupby(["task", "metric", "checkpoint"])["value"].mean()
    return {
        (task, metric): values.loc[task, metric].reindex(trajectory.checkpoints).dropna()
        for task, metric in dict.fromkeys(zip(plain["task"], plain["metric"], strict=True))
    }


def _paired(x: pd.Series, y: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    pairs = pd.concat([x, y], axis=1, join="inner").dropna().to_numpy(float)
    return pairs[:, 0], pairs[:, 1]
