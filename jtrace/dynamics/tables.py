"""The tables of RUN/dynamics: what a run's metrics, vectors and behaviour say about the course of pre-training."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from jtrace.dynamics.angles import ANGLES, SUBSPACES, angles, subspaces
from jtrace.dynamics.trajectory import CORRELATIONS, Trajectory, correlations, trajectories, with_checkpoints
from jtrace.probing.information import student_95
from jtrace.probing.sound import HALVES
from jtrace.probing.vectors import Vectors
from jtrace.runs.steering_files import reported
from jtrace.runtime.names import file_name
from jtrace.stats.bootstrap import Z95
from jtrace.stats.change_points import change_points, onset
from jtrace.stats.unimodal import turn

CURVE = ("model", "axis", "protocol", "dataset", "dimension", "layer", "metric")
ONSETS = (*CURVE, "line", "checkpoint", "at", "ci_low", "ci_high")
CHANGE_POINTS = (*CURVE, "number", "checkpoint", "at", "ci_low", "ci_high", "slope_before", "slope_after")
TURNS = (*CURVE, "checkpoint", "at", "ci_low", "ci_high", "rise", "fall", "p")
# Accuracy above what knows nothing of the labels, as paired differences: of the layers that each fold chose on rows
# apart; and of one layer, both of these.
CHOSEN = "chosen_layer_gain"
OF_A_LAYER = ("gain_over_text", "gain_over_random_init")
LINE = "the largest of text_accuracy, majority_accuracy, random_init_accuracy and 0.5"


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
        the interval is open on the right. Onsets need intervals, which `paper` has none of.
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
            of_metrics = trajectory.rows["metric"].isin(("probe_accuracy", *information))
            curves = list(_curves(trajectory, protocol, trajectory.rows[of_metrics]))
            found["onsets"].append(pd.DataFrame(_onsets(trajectory, protocol, seed), columns=list(ONSETS)))
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
        return read_vectors(file_name(checkpoint))

    for trajectory in along:
        found["angles"].append(angles(trajectory, once, read))
        found["subspaces"].append(subspaces(trajectory, read))
    return {name: _joined(tables) for name, tables in found.items()}


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _curves(trajectory: Trajectory, protocol: str, rows: pd.DataFrame) -> Iterator[Curve]:
    """Those that some of the trajectory's rows make."""
    rows = rows.dropna(subset="value").sort_values("checkpoint", kind="stable")
    for names, curve in rows.groupby(["dataset", "dimension", "layer", "metric"], sort=False):
        named = (trajectory.model, trajectory.axis, protocol, *names)
        value, at = curve["value"].to_numpy(np.float64), curve["at"].to_numpy(np.float64)
        yield Curve(
            named, curve["checkpoint"].astype(str).to_list(), at, value, _standard_errors(curve, str(names[-1]))
        )


def _standard_errors(curve: pd.DataFrame, metric: str) -> np.ndarray | None:
    """From the intervals."""
    halves = metric.startswith("mi_") and metric != "mi_yt_bound"
    width = 2 * (student_95(HALVES - 1) if halves else Z95)
    se = (curve["ci_high"] - curve["ci_low"]).to_numpy(np.float64) / width
    return se if np.all(se > 0) else None


def _onsets(trajectory: Trajectory, protocol: str, seed: int) -> Iterator[tuple[object, ...]]:
    """Of paired gains, and of information that is 0 where there is no dependence."""
    rows = trajectory.rows
    information = rows[rows["metric"].isin(MEASURES[protocol].zero_is_nothing)]
    for line, some in ((LINE, _at_chosen_layers(rows)), (LINE, _least_gains(rows)), ("0", information)):
        for curve in _curves(trajectory, protocol, some):
            if curve.se is None:
                continue
            found = onset(curve.at, curve.value, curve.se, 0.0, seed)
            if found is None:
                yield (*curve.named, line, "", np.nan, np.nan, np.nan)
            else:
                high = found.high if np.isfinite(found.high) else np.nan
                yield (*curve.named, line, curve.checkpoints[found.index], curve.at[found.index], found.low, high)


def _at_chosen_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """One curve per set. Each checkpoint names the layer that most of its folds chose; the curve has the last one's."""
    gains = rows[rows["metric"] == CHOSEN].sort_values("checkpoint")
    return gains.assign(layer=gains.groupby("dataset")["layer"].transform("last"))


def _least_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each layer's gains that which is least clear, as probe accuracy's: all are above 0 where it is."""
    gains = rows[rows["metric"].isin(OF_A_LAYER)].dropna(subset="ci_low").sort_values("ci_low", kind="stable")
    return gains.drop_duplicates(["dataset", "layer", "checkpoint"]).assign(metric="probe_accuracy")


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
