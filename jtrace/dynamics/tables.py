"""The tables of RUN/dynamics: the course of pre-training, from a run's metrics, vectors and behaviour."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from jtrace.dynamics.angles import ANGLES, SUBSPACES, angles, subspaces
from jtrace.dynamics.trajectory import CORRELATIONS, Trajectory, correlations, trajectories, with_checkpoints
from jtrace.probing.sound import HALVES
from jtrace.probing.vector_files import Vectors
from jtrace.runs.steering_files import reported
from jtrace.runtime.names import file_name
from jtrace.stats.change_points import change_points, onset
from jtrace.stats.quantiles import Z95, student_95
from jtrace.stats.unimodal import turn

CURVE = ("model", "axis", "protocol", "dataset", "dimension", "layer", "metric")
ONSETS = (*CURVE, "line", "checkpoint", "at", "ci_low", "ci_high")
CHANGE_POINTS = (*CURVE, "number", "checkpoint", "at", "ci_low", "ci_high", "slope_before", "slope_after")
TURNS = (*CURVE, "checkpoint", "at", "ci_low", "ci_high", "rise", "fall", "p")
# Paired differences between a probe's accuracy and that of baselines that know nothing of the labels: at the layers
# that each fold chose on rows apart, and at one layer.
CHOSEN = "chosen_layer_gain"
OF_A_LAYER = ("gain_over_text", "gain_over_random_init")
LINE = "the largest of text_accuracy, majority_accuracy, random_init_accuracy and 0.5"


class Measures(NamedTuple):
    """Names of the metrics that stand for information in a protocol.

    Attributes:
        information: metrics of I(X;T) and I(Y;T).
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
        named: values of the columns `CURVE`.
        checkpoints, at: names of the checkpoints and their places on the axis, in order.
        value: float64 [T].
        se: standard errors > 0, float64 [T]; None if one of them is not known.
    """

    named: tuple[object, ...]
    checkpoints: list[str]
    at: np.ndarray
    value: np.ndarray
    se: np.ndarray | None


def dynamics(
    metrics: pd.DataFrame, steering: pd.DataFrame, read_vectors: Callable[[str], Vectors | None], seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Computes onsets, change points, turns, angles, subspaces and correlations of every model that has a curve.

    Onsets, change points and turns are of all layers. All tables but onsets have rows only for results that exist.

    Args:
        metrics, steering: columns as in the run directory's tables.
        read_vectors: a checkpoint's name in file names → its vectors; None where there are none.

    Returns:
        Tables by name. Places are NaN in onsets only: where a curve does not stay above its line in the end, or where
        the interval is open on the right. Onsets need intervals, and `paper` has none.
    """
    tables: dict[str, list[pd.DataFrame]] = {
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
            tables["onsets"].append(pd.DataFrame(_onsets(trajectory, protocol, seed), columns=list(ONSETS)))
            tables["change_points"].append(pd.DataFrame(_change_points(curves), columns=list(CHANGE_POINTS)))
            fitting = [curve for curve in curves if curve.named[-1] == information[0]]
            tables["turns"].append(pd.DataFrame(_turns(fitting, seed), columns=list(TURNS)))
            together = correlations(trajectory, behaviour, ("probe_accuracy", *information))
            together.insert(0, "model", trajectory.model)
            together.insert(1, "protocol", protocol)
            tables["correlations"].append(together)
    # Vectors belong to no protocol; they are compared at the layers that `sound` chooses, where it was run.
    preferred = metrics[metrics["protocol"] == ("sound" if (metrics["protocol"] == "sound").any() else "paper")]
    along = trajectories(preferred)
    on_curves = {name for trajectory in along for name in (*trajectory.checkpoints, *trajectory.left_out)}
    every = [] if preferred.empty else list(with_checkpoints(preferred)["checkpoint"].cat.categories)
    once = [name for name in every if name not in on_curves]

    def read(checkpoint: str) -> Vectors | None:
        return read_vectors(file_name(checkpoint))

    for trajectory in along:
        tables["angles"].append(angles(trajectory, once, read))
        tables["subspaces"].append(subspaces(trajectory, read))
    return {name: _joined(parts) for name, parts in tables.items()}


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def _curves(trajectory: Trajectory, protocol: str, rows: pd.DataFrame) -> Iterator[Curve]:
    """Yields the curves that some of the trajectory's rows make."""
    rows = rows.dropna(subset="value").sort_values("checkpoint", kind="stable")
    for names, curve in rows.groupby(["dataset", "dimension", "layer", "metric"], sort=False):
        named = (trajectory.model, trajectory.axis, protocol, *names)
        value, at = curve["value"].to_numpy(np.float64), curve["at"].to_numpy(np.float64)
        yield Curve(
            named, curve["checkpoint"].astype(str).to_list(), at, value, _standard_errors(curve, str(names[-1]))
        )


def _standard_errors(curve: pd.DataFrame, metric: str) -> np.ndarray | None:
    """Computes standard errors from the intervals."""
    halves = metric.startswith("mi_") and metric != "mi_yt_bound"
    width = 2 * (student_95(HALVES - 1) if halves else Z95)
    se = (curve["ci_high"] - curve["ci_low"]).to_numpy(np.float64) / width
    return se if np.all(se > 0) else None


def _onsets(trajectory: Trajectory, protocol: str, seed: int) -> Iterator[tuple[object, ...]]:
    """Yields onsets of paired gains, and of information that is 0 where there is no dependence."""
    rows = trajectory.rows
    information = rows[rows["metric"].isin(MEASURES[protocol].zero_is_nothing)]
    for line, some in ((LINE, _at_chosen_layers(rows)), (LINE, _least_gains(rows)), ("0", information)):
        for curve in _curves(trajectory, protocol, some):
            if curve.se is None:
                continue
            start = onset(curve.at, curve.value, curve.se, 0.0, seed)
            if start is None:
                yield (*curve.named, line, "", np.nan, np.nan, np.nan)
            else:
                high = start.high if np.isfinite(start.high) else np.nan
                yield (*curve.named, line, curve.checkpoints[start.index], curve.at[start.index], start.low, high)


def _at_chosen_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """Selects one curve per set. Each row names the layer that most folds chose; the curve gets the last row's."""
    gains = rows[rows["metric"] == CHOSEN].sort_values("checkpoint")
    return gains.assign(layer=gains.groupby("dataset")["layer"].transform("last"))


def _least_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Selects each layer's least clear gain, named probe accuracy: where it is above 0, all are."""
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
        peak = turn(curve.value, curve.se, seed)
        if peak is not None:
            places = curve.at[[peak.index, peak.low, peak.high]]
            yield (*curve.named, curve.checkpoints[peak.index], *places, peak.rise, peak.fall, peak.p)
