"""Rows of tables that one statement set yields at one checkpoint. Axes: L layers, M shown rows."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """One row of a metrics table, less what names the checkpoint."""

    dataset: str
    dimension: str
    layer: int
    protocol: str
    metric: str
    value: float
    n: int
    seed: int = 0
    ci_low: float | None = None
    ci_high: float | None = None


@dataclass(frozen=True)
class Projection:
    """Where some rows of a set lie in two dimensions, layer by layer.

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
