"""Tables of steering, read: each vector in each target, and the measures of behaviour under it."""

from dataclasses import dataclass
from functools import cached_property
from math import isnan

import pandas as pd

from jtrace.evaluation.task_facts import CAPABILITY
from jtrace.runs.names import Placement, VectorName
from jtrace.stats.quantiles import LEVEL, normal_point


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval; the interval's ends are NaN where it is not known."""

    value: float
    ci_low: float
    ci_high: float

    def apart_from(self, other: "Estimate") -> bool | None:
        """Tell whether the two intervals have nothing in common; None where one of them is not known."""
        if any(map(isnan, (self.ci_low, self.ci_high, other.ci_low, other.ci_high))):
            return None
        return self.ci_low > other.ci_high or other.ci_low > self.ci_high

    def among(self, comparisons: int) -> "Estimate":
        """The same with the interval that holds for all of several comparisons at once, by Šidák's inequality (1967).

        Each side is wider by the ratio of the normal quantiles, so that it follows from the interval alone: it may be
        taken of any table, and anew when comparisons are added. Where comparisons go together it is too wide.
        """
        times = normal_point(LEVEL ** (1 / comparisons)) / normal_point()
        low, high = (self.value + times * (end - self.value) for end in (self.ci_low, self.ci_high))
        return Estimate(self.value, low, high)


# eq=False: comparing tables has no single truth value.
@dataclass(frozen=True, eq=False)
class SteeredRows:
    """A vector in a target, and all that was measured with it.

    Attributes:
        name: the checkpoint that it is from, and how it was made.
        dataset: the statement set that it is from.
        placement: where in the sequence it was added, and how.
        rows: of the steering tables, strength 0 included.
    """

    target: str
    name: VectorName
    dataset: str
    placement: Placement
    protocol: str
    seed: int
    rows: pd.DataFrame

    @property
    def source(self) -> str:
        """The checkpoint that it is from."""
        return self.name.checkpoint

    @property
    def kind(self) -> str:
        """Kind of the vector: empty as published, else `random`, `shuffled`, `whitened` and the like."""
        return self.name.kind

    @property
    def control(self) -> str:
        """The one of `jtrace.runs.names.CONTROLS` that it is; empty for none."""
        return self.name.control

    @property
    def is_control(self) -> bool:
        return bool(self.control)

    @property
    def own(self) -> bool:
        """Tell whether target and source are the same checkpoint."""
        return self.source == self.target

    @property
    def tasks(self) -> list[str]:
        """Tasks in the table's order."""
        return list(dict.fromkeys(self.rows["task"]))

    @property
    def strengths(self) -> list[float]:
        """Ascending, 0 included where it was measured."""
        return sorted(map(float, self.rows["strength"].unique()))

    def controls(self, other: "SteeredRows") -> bool:
        """Tell whether this is a control of the other: of its source, kind and set, added to the same positions."""
        return (
            self.is_control
            and self.name.controlled_kind == other.kind
            and all(
                getattr(self, name) == getattr(other, name)
                for name in ("target", "source", "dataset", "placement", "protocol")
            )
        )

    def estimate(self, task: str, metric: str, layer: int, strength: float) -> Estimate | None:
        """A metric at a setting; strength 0, which is the same at every layer, at whichever there is."""
        return self._estimates.get((task, metric, layer if strength else -1, strength))

    def unsteered(self, task: str, metric: str) -> Estimate | None:
        return self.estimate(task, metric, -1, 0.0)

    def perplexity_ratio(self, layer: int, strength: float) -> float | None:
        """Perplexity at a setting over the unsteered model's; None where it was not measured."""
        steered = self.estimate("perplexity", "perplexity", layer, strength)
        plain = self.unsteered("perplexity", "perplexity")
        return steered.value / plain.value if steered and plain else None

    def capability_change(self, layer: int, strength: float) -> float | None:
        """Accuracy at a setting minus the unsteered model's, the mean over the capability tasks measured; or None."""
        pairs = [
            (self.estimate(task, "accuracy", layer, strength), self.unsteered(task, "accuracy")) for task in CAPABILITY
        ]
        changes = [steered.value - plain.value for steered, plain in pairs if steered and plain]
        return sum(changes) / len(changes) if changes else None

    @cached_property
    def _estimates(self) -> dict[tuple[str, str, int, float], Estimate]:
        columns = [self.rows[name] for name in ("task", "metric", "layer", "strength", "value", "ci_low", "ci_high")]
        estimates: dict[tuple[str, str, int, float], Estimate] = {}
        for task, metric, layer, strength, *numbers in zip(*columns, strict=True):
            place = (task, metric, int(layer) if strength else -1, float(strength))
            estimates.setdefault(place, Estimate(*map(float, numbers)))
        return estimates


def vectors(steering: pd.DataFrame) -> list[SteeredRows]:
    """Every vector that was added with a strength other than 0, controls included, in the table's order.

    Args:
        steering: columns as in the run directory's steering tables.
    """
    known = steering.dropna(subset=["value"])
    known = known[known["vector_from"].notna() & (known["vector_from"] != "")]
    steered = []
    names = ["target", "vector_from", "vector_set", "positions", "protocol", "seed"]
    for key, rows in known.groupby(names, sort=False, dropna=False):
        target, name, dataset, positions, protocol, seed = key
        vector, placement = VectorName.parse(str(name)), Placement.parse(str(positions))
        if (rows["strength"] != 0).any():
            steered.append(
                SteeredRows(str(target), vector, str(dataset), placement, str(protocol), int(str(seed)), rows)
            )
    return steered
