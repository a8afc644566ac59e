"""Statement sets at a model's last checkpoint, each with the measurements at the layer of its best probe."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from jtrace.dynamics.trajectory import Trajectory, best_layer, trajectories, with_checkpoints
from jtrace.steering.results import Estimate


# eq=False: comparing tables has no single truth value.
@dataclass(frozen=True, eq=False)
class SetAtLastCheckpoint:
    """A set under one protocol, at a model's last checkpoint.

    Attributes:
        model: as in the tables; the checkpoint's name where the model was traced once; empty for a curve of models.
        layer: of the highest probe accuracy at `checkpoint`, the lowest such layer.
        checkpoint: the last one that the set's probes are known of.
        n: held-out rows.
        rows: of the set, every layer and checkpoint of the curve, with `checkpoint` in order.
        curve: None where the model was traced once.
    """

    model: str
    protocol: str
    dataset: str
    dimension: str
    layer: int
    checkpoint: str
    n: int
    rows: pd.DataFrame
    curve: Trajectory | None

    @property
    def called(self) -> str:
        """The dimension, or the set where none is named."""
        return self.dimension or self.dataset

    def estimate(self, metric: str, layer: int | None = None) -> Estimate | None:
        """Read a metric at the last checkpoint, at `layer` or else the probe's; None where it was not measured."""
        return self._estimates.get((metric, self.layer if layer is None else layer))

    def value(self, metric: str) -> float | None:
        """Read the value of `estimate` alone."""
        estimate = self.estimate(metric)
        return None if estimate is None else estimate.value

    def only(self, metric: str) -> tuple[int, Estimate] | None:
        """Read a metric that has one row per set and checkpoint, and the layer that the row names."""
        return next(((layer, value) for (name, layer), value in self._estimates.items() if name == metric), None)

    @property
    def chance(self) -> float:
        """Accuracy of always guessing the larger class, at least that of a coin."""
        return max(0.5, self.value("majority_accuracy") or 0.5)

    def over_training(self, metric: str, layer: int | None = None) -> pd.DataFrame:
        """Rows of one metric in the order of checkpoints, at `layer` or else that of the probe."""
        places = self._places.get((metric, self.layer if layer is None else layer), [])
        return self.rows.iloc[places].sort_values("checkpoint")

    def of_set(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of a table of dynamics that are of this model, protocol and set."""
        same = (table["protocol"] == self.protocol) & (table["dataset"] == self.dataset)
        return table[same & (table["model"] == self.model)]

    def part_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """`of_set`, at this layer."""
        rows = self.of_set(table)
        return rows[rows["layer"] == self.layer]

    # A run of hundreds of sets asks each of them for dozens of metrics: the table is gone through once.
    @cached_property
    def _estimates(self) -> dict[tuple[str, int], Estimate]:
        """By metric and layer, at the last checkpoint."""
        last = self.rows[self.rows["checkpoint"] == self.checkpoint]
        columns = (last[name] for name in ("metric", "layer", "value", "ci_low", "ci_high"))
        estimates: dict[tuple[str, int], Estimate] = {}
        for metric, layer, *numbers in zip(*columns, strict=True):
            estimates.setdefault((metric, int(layer)), Estimate(*map(float, numbers)))
        return estimates

    @cached_property
    def _places(self) -> dict[tuple[str, int], list[int]]:
        """The numbers of the rows, by metric and layer."""
        places: dict[tuple[str, int], list[int]] = {}
        for at, (metric, layer) in enumerate(zip(self.rows["metric"], self.rows["layer"], strict=True)):
            places.setdefault((metric, int(layer)), []).append(at)
        return places


def standings(metrics: pd.DataFrame) -> list[SetAtLastCheckpoint]:
    """Find where each protocol's sets stand: for each model's curve, then for each model that was traced once.

    Args:
        metrics: columns as in the run directory's tables.
    """
    return [
        standing for protocol, rows in metrics.groupby("protocol") for standing in _of_protocol(rows, str(protocol))
    ]


def _of_protocol(metrics: pd.DataFrame, protocol: str) -> Iterator[SetAtLastCheckpoint]:
    curves = trajectories(metrics)
    for curve in curves:
        yield from _of_rows(curve.rows, curve.model, protocol, curve)
    ordered = with_checkpoints(metrics)
    in_curves = {name for curve in curves for name in (*curve.checkpoints, *curve.left_out)}
    for name in ordered["checkpoint"].cat.categories:
        if name not in in_curves:
            yield from _of_rows(ordered[ordered["checkpoint"] == name], name, protocol, None)


def _of_rows(rows: pd.DataFrame, model: str, protocol: str, curve: Trajectory | None) -> Iterator[SetAtLastCheckpoint]:
    for dataset, of_set in rows.groupby("dataset", sort=False):
        layer = best_layer(of_set, str(dataset))
        if layer is None:
            continue
        probes = of_set[(of_set["metric"] == "probe_accuracy") & (of_set["layer"] == layer)]
        last = probes.sort_values("checkpoint").iloc[-1]
        at, dimension = str(last["checkpoint"]), str(last["dimension"])
        yield SetAtLastCheckpoint(model, protocol, str(dataset), dimension, layer, at, int(last["n"]), of_set, curve)
