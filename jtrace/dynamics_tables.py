"""The tables of RUN/dynamics: what a run's metrics, vectors and behaviour say about the course of pre-training."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from jtrace.angles import ANGLES, SUBSPACES, angles, subspaces
from jtrace.behaviour import reported
from jtrace.change_points import STANDARD_ERRORS, change_points, onset
from jtrace.dynamics import CORRELATIONS, Trajectory, correlations, trajectories, with_checkpoints
from jtrace.information import student_95
from jtrace.sound import HALVES
from jtrace.turns import turn
from jtrace.vectors import Vectors

CURVE = ("model", "axis", "protocol", "dataset", "dimension", "layer", "metric")
ONSETS = (*CURVE, "line", "checkpoint", "at", "ci_low", "ci_high")
CHANGE_POINTS = (*CURVE, "number", "checkpoint", "at", "ci_low", "ci_high", "slope_before", "slope_after")
TURNS = (*CURVE, "checkpoint", "at", "ci_low", "ci_high", "rise", "fall", "p")
# What a model that knows nothing of the labels reaches, besides guessing between two of them.
LEVELS = ("text_accuracy", "majority_accuracy", "random_init_accuracy")
GUESSING = 0.5


class Measures(NamedTuple):
    """The metrics that stand for information in a protocol.

    Attributes:
        information: I(X;T) and I(Y;T).
        zero_is_nothing: those of them that are 0 where there is no dependence.
    """

    information: tuple[str, str]
    zero_is_nothing: tuple[str, ...]


MEASURES = {
    "paper": Measures(("mi_xt", "mi_yt"), ()),
    "sound": Measures(("mi_xt_excess", "mi_yt_excess"), ("mi_yt_excess",)),
}


class Curve(NamedTuple):
    """A metric of one set and layer over T checkpoints.

    Attributes:
        named: the columns `CURVE`.
        checkpoints, at: their names and places on the axis, in order.
        value: float64 [T].
        se: standard errors > 0, float64 [T]; None where one is not known.
    """

    named: tuple[object, ...]
    checkpoints: list[str]
    at: np.ndarray
    value: np.ndarray
    se: np.ndarray | None


def dynamics(
    metrics: pd.DataFrame, steering: pd.DataFrame, read_vectors: Callable[[str], Vectors | None], seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Onsets, change points, turns, angles, subspaces and correlations of every model that has a curve.

    Onsets, change points and turns are of all layers; all but onsets have rows only for what was found or can be told.

    Args:
        metrics, steering: columns as in the run directory's tables.
        read_vectors: a checkpoint's name in file names → its vectors; None where there are none.

    Returns:
        By table name. Places are NaN in onsets alone, where a curve does not come to stay above its line, or where
        the interval is open on the right.
    """
    found: dict[str, list[pd.DataFrame]] = {
        "onsets": [pd.DataFrame(columns=list(ONSETS))],
        "change_points": [pd.DataFrame(columns=list(CHANGE_POINTS))],
        "turns": [pd.DataFrame(columns=list(TURNS))],
        "angles": [pd.DataFrame(columns=list(ANGLES))],
        "subspaces": [pd.DataFrame(columns=list(SUBSPACES))],
        "correlations": [pd.DataFrame(columns=["model", "protocol", *CORRELATIONS])],
    }
    behaviour = reported(steering)
    for name, rows in metrics.groupby("protocol"):
        protocol = str(name)
        information = MEASURES[protocol].information
        for trajectory in trajectories(rows):
            curves = list(_curves(trajectory, protocol, ("probe_accuracy", *information)))
            found["onsets"].append(pd.DataFrame(_onsets(trajectory, protocol, curves, seed), columns=list(ONSETS)))
            found["change_points"].append(pd.DataFrame(_change_points(curves), columns=list(CHANGE_POINTS)))
            fitting = [curve for curve in curves if curve.named[-1] == information[0]]
            found["turns"].append(pd.DataFrame(_turns(fitting, seed), columns=list(TURNS)))
            together = correlations(trajectory, behaviour, ("probe_accuracy", *information))
            together.insert(0, "model", trajectory.model)
            together.insert(1, "protocol", protocol)
            found["correlations"].append(together)
    # Vectors belong to no protocol; the layers that they are looked at in are those of the held-out choice.
    preferred = metrics[metrics["protocol"] == ("sound" if (metrics["protocol"] == "sound").any() else "paper")]
    along = trajectories(preferred)
    on_curves = {name for trajectory in along for name in (*trajectory.checkpoints, *trajectory.left_out)}
    every = [] if preferred.empty else list(with_checkpoints(preferred)["checkpoint"].cat.categories)
    once = [name for name in every if name not in on_curves]

    def read(checkpoint: str) -> Vectors | None:
        return read_vectors(checkpoint.replace("/", "--"))

    for trajectory in along:
        found["angles"].append(angles(trajectory, once, read))
        found["subspaces"].append(subspaces(trajectory, read))
    return {name: _joined(tables) for name, tables in found.items()}


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _curves(trajectory: Trajectory, protocol: str, metrics: tuple[str, ...]) -> Iterator[Curve]:
    rows = trajectory.rows[trajectory.rows["metric"].isin(metrics)].dropna(subset="value")
    rows = rows.sort_values("checkpoint", kind="stable")
    for names, curve in rows.groupby(["dataset", "dimension", "layer", "metric"], sort=False):
        named = (trajectory.model, trajectory.axis, protocol, *names)
        value, at = curve["value"].to_numpy(np.float64), curve["at"].to_numpy(np.float64)
        yield Curve(
            named, curve["checkpoint"].astype(str).to_list(), at, value, _standard_errors(curve, str(names[-1]))
        )


def _standard_errors(curve: pd.DataFrame, metric: str) -> np.ndarray | None:
    """From the intervals, or else, for an accuracy, from the number of statements."""
    halves = metric.startswith("mi_") and metric != "mi_yt_bound"
    width = 2 * (student_95(HALVES - 1) if halves else STANDARD_ERRORS)
    se = (curve["ci_high"] - curve["ci_low"]).to_numpy(np.float64) / width
    if metric.endswith("_accuracy") and not np.all(se > 0):
        n = curve["n"].to_numpy(np.float64)
        # Two more right and two more wrong: all right is no proof of no errors (Agresti and Coull 1998).
        share = (curve["value"].to_numpy(np.float64) * n + 2) / (n + 4)
        se = np.where(se > 0, se, np.sqrt(share * (1 - share) / (n + 4)))
    return se if np.all(se > 0) else None


def _onsets(trajectory: Trajectory, protocol: str, curves: list[Curve], seed: int) -> Iterator[tuple[object, ...]]:
    rows = trajectory.rows[trajectory.rows["metric"].isin(LEVELS)]
    levels = rows.pivot_table("value", ["dataset", "layer", "checkpoint"], "metric", observed=True)
    for curve in curves:
        *_, dataset, _, layer, metric = curve.named
        if curve.se is None:
            continue
        if metric == "probe_accuracy":
            places = pd.MultiIndex.from_product([[dataset], [layer], curve.checkpoints])
            there = levels.reindex(places).dropna(axis=1)
            names = [name for name in LEVELS if name in there.columns]
            line = np.maximum(there[names].max(axis=1).fillna(GUESSING).to_numpy(np.float64), GUESSING)
            against = f"the largest of {', '.join(names)} and {GUESSING}" if names else f"{GUESSING}"
        elif metric in MEASURES[protocol].zero_is_nothing:
            line, against = np.zeros_like(curve.value), "0"
        else:
            continue
        found = onset(curve.at, curve.value, curve.se, line, seed)
        if found is None:
            yield (*curve.named, against, "", np.nan, np.nan, np.nan)
        else:
            high = found.high if np.isfinite(found.high) else np.nan
            yield (*curve.named, against, curve.checkpoints[found.index], curve.at[found.index], found.low, high)


def _change_points(curves: list[Curve]) -> Iterator[tuple[object, ...]]:
    for curve in curves:
        for number, change in enumerate(change_points(curve.value, curve.se), 1):
            places = curve.at[[change.index, change.low, change.high]]
            slopes = change.slope_before, change.slope_after
            yield (*curve.named, number, curve.checkpoints[change.index], *places, *slopes)


def _turns(curves: list[Curve], seed: int) -> Iterator[tuple[object, ...]]:
    for curve in curves:
        found = turn(curve.value, curve.se, seed)
        if found is not None:
            places = curve.at[[found.index, found.low, found.high]]
            yield (*curve.named, curve.checkpoints[found.index], *places, found.rise, found.fall, found.p)
