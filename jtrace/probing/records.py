"""Rows of tables that one statement set yields at one checkpoint. Axes: L layers, M shown rows."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jtrace.errors import InputError
from jtrace.probing.protocols import Protocol


@dataclass(frozen=True)
class Metric:
    """One row of a metrics table, less what names the checkpoint."""

    dataset: str
    dimension: str
    layer: int
    protocol: Protocol
    metric: str
    value: float
    n: int
    seed: int = 0
    ci_low: float | None = None
    ci_high: float | None = None


def check_finite(metrics: Iterable[Metric]) -> None:
    """Refuse rows that are no numbers.

    Raises:
        InputError: a value or an end of its interval is not finite.
    """
    for metric in metrics:
        if not np.isfinite([metric.value, metric.ci_low or 0.0, metric.ci_high or 0.0]).all():
            raise InputError(
                f"{metric.dataset}: {metric.metric} of layer {metric.layer} is {metric.value}; the checkpoint is not "
                "traceable"
            )


@dataclass(frozen=True)
class HeldOut:
    """Scores that a set's rows got from a probe of one layer that had not seen them.

    Attributes:
        layer: the one of the checkpoint's highest probe accuracy, of equals the lowest.
        rows: which rows of the set, int64 [M]: the test part under `paper`, all under `sound`.
        labels: of these rows, int8 [M].
        scores: log-odds of label 1, float32 [M]; the mean over repeats under `sound`.
    """

    dataset: str
    protocol: Protocol
    layer: int
    rows: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Projection:
    """Points of some rows of a set in two dimensions, layer by layer.

    Attributes:
        rows: which rows of the set, int64 [M].
        labels: of these rows, int8 [M].
        layers: int32 [L].
        points: first two principal components of the rows' standardised activations, float32 [L, M, 2].
    """

    dataset: str
    dimension: str
    rows: np.ndarray
    labels: np.ndarray
    layers: np.ndarray
    points: np.ndarray
