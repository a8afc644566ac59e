"""Metrics over pre-training: checkpoints in order, each model's own curve, and what goes together along it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import pandas as pd

from jtrace.data.splits import evenly_spread

AXES = {"tokens": "pre-training tokens", "step": "pre-training step"}
BY_CHECKPOINT = "checkpoint"
# Fisher's z has the variance 1 / (n − 3).
FEWEST_FOR_AN_INTERVAL = 4
Value = TypeVar("Value")


@dataclass(frozen=True)
class Trajectory:
    """One model's checkpoints along its pre-training.

    Attributes:
        model: empty where the checkpoints are of a model each, which are then not one curve.
        rows: of the metrics table, with `checkpoint`, categorical in order, and `at`, the place on the axis.
        axis: what `at` counts; for `BY_CHECKPOINT` it is the position in order.
        left_out: checkpoints of the model whose place on the axis is not known.
    """

    model: str
    rows: pd.DataFrame
    axis: str
    left_out: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> list[str]:
        """In order."""
        return list(self.rows["checkpoint"].cat.categories)

    @property
    def places(self) -> np.ndarray:
        """`at` of each checkpoint, float64, ascending."""
        return self.rows.groupby("checkpoint", observed=True)["at"].first().to_numpy(np.float64)


def with_checkpoints(metrics: pd.DataFrame) -> pd.DataFrame:
    """The table with a `checkpoint` column, categorical in pre-training order: by model, then step."""
    metrics = metrics.reset_index(drop=True)
    named = metrics["model"] + np.where(metrics["revision"] == "", "", "@" + metrics["revision"])
    order = metrics.assign(checkpoint=named).sort_values(["model", "step", "revision"], na_position="last")[
        "checkpoint"
    ]
    return metrics.assign(checkpoint=pd.Categorical(named, order.unique(), ordered=True))


def briefly_named(metrics: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints called as short as tells them apart: by the revision alone, or without the organisation."""
    names = list(metrics["checkpoint"].cat.categories)
    by_revision = [name.rpartition("@")[2] for name in names]
    without_organisation = [name.rpartition("/")[2] for name in names]
    one_model = metrics["model"].nunique() == 1 and (metrics["revision"] != "").all()
    brief = by_revision if one_model else without_organisation
    if len(set(brief)) < len(names):
        return metrics
    return metrics.assign(checkpoint=metrics["checkpoint"].cat.rename_categories(brief))


def evenly_chosen(values: Sequence[Value], most: int) -> list[Value]:
    """At most `most` of the values, first and last included, evenly spread."""
    return [values[i] for i in evenly_spread(len(values), most)]


def trajectories(metrics: pd.DataFrame) -> list[Trajectory]:
    """The curve of each model that has several checkpoints; a model traced once, as a fine-tuned one, has none.

    Where every model was traced once, all checkpoints are taken together, since some projects publish each checkpoint
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
    # Steps of different models count different things.
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
    """The layer of the highest probe accuracy on a set at the last checkpoint, the lowest such layer.

    Args:
        rows: with `checkpoint` as in `Trajectory.rows`.

    Returns:
        None where no probe accuracy was measured.
    """
    probes = rows[(rows["dataset"] == dataset) & (rows["metric"] == "probe_accuracy")]
    last = probes[probes["checkpoint"] == probes["checkpoint"].max()].sort_values("layer")
    return None if last.empty else int(last.loc[last["value"].idxmax(), "layer"])


@dataclass(frozen=True)
class Correlation:
    """Pearson's r over `n` pairs, with the 95 % interval of Fisher's z."""

    r: float
    ci_low: float
    ci_high: float
    n: int


def pearson(x: np.ndarray, y: np.ndarray) -> Correlation | None:
    """None where there are fewer than `FEWEST_FOR_AN_INTERVAL` pairs, or one side never varies."""
    if len(x) < FEWEST_FOR_AN_INTERVAL or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    # Brought to one size first: squares of tiny deviations would vanish.
    u, v = (deviation / np.abs(deviation).max() for deviation in (x - x.mean(), y - y.mean()))
    r = float(np.clip(u @ v / np.sqrt((u @ u) * (v @ v)), -1, 1))
    with np.errstate(divide="ignore"):  # a perfect correlation has an interval without width
        z, half = np.arctanh(r), NormalDist().inv_cdf(0.975) / np.sqrt(len(x) - 3)
    return Correlation(r, float(np.tanh(z - half)), float(np.tanh(z + half)), len(x))


def agreement(trajectory: Trajectory, steering: pd.DataFrame) -> pd.DataFrame:
    """How probe accuracy and unsteered behaviour go together over a model's checkpoints.

    Args:
        steering: columns as in the run directory's steering tables; rows of strength 0 whose target is a checkpoint of
            the trajectory count, each value once.

    Returns:
        A row per set and measure of behaviour: `dataset, layer, task, metric, r, ci_low, ci_high, n`, the layer being
        `best_layer`.
    """
    plain = steering[steering["strength"] == 0]
    # Behaviour may be measured by another protocol than probes are.
    other = ~plain["protocol"].isin(trajectory.rows["protocol"].unique())
    plain = plain.assign(metric=plain["metric"].where(~other, plain["metric"] + " (" + plain["protocol"] + ")"))
    target = plain["target"].astype(str).str.replace("--", "/", regex=False)
    by_file_name = {name.replace("--", "/"): name for name in trajectory.checkpoints}
    plain = plain.assign(checkpoint=target.map(by_file_name)).dropna(subset="checkpoint")
    behaviour = plain.groupby(["task", "metric", "checkpoint"])["value"].mean()
    measures = list(dict.fromkeys(zip(plain["task"], plain["metric"], strict=True)))
    found = []
    for dataset in dict.fromkeys(trajectory.rows["dataset"]):
        layer = best_layer(trajectory.rows, dataset)
        probes = trajectory.rows[
            (trajectory.rows["dataset"] == dataset)
            & (trajectory.rows["metric"] == "probe_accuracy")
            & (trajectory.rows["layer"] == layer)
        ]
        probed = probes.set_index(probes["checkpoint"].astype(str))["value"]
        for task, metric in measures:
            pairs = pd.concat([probed, behaviour.loc[task, metric]], axis=1, join="inner").to_numpy(float)
            correlation = pearson(pairs[:, 0], pairs[:, 1])
            if correlation is not None:
                found.append({"dataset": dataset, "layer": layer, "task": task, "metric": metric, **vars(correlation)})
    return pd.DataFrame(found, columns=["dataset", "layer", "task", "metric", "r", "ci_low", "ci_high", "n"])
