"""Tables of steering, read: whose vector was added to what, and what became of which measure of behaviour."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from statistics import NormalDist

import pandas as pd

from jtrace.stats.bootstrap import LEVEL

LOWER_IS_BETTER = frozenset({"toxicity", "perplexity", "unparsable"})
CAPABILITY = ("mmlu", "arc_easy", "arc_challenge", "race", "mathqa")
# Vectors that know nothing of the concept: what they reach needs no concept.
CONTROLS = ("random", "shuffled")
DIMENSIONS = {
    "stereoset": "fairness",
    "confaide": "privacy",
    "sst2": "robustness",
    "truthfulqa": "reliability",
    "truthfulqa-mc": "reliability",
    "toxigen": "toxicity",
}
MAIN_METRICS = {
    "truthfulqa": ("true_and_info", "true", "info", "mc2"),
    "truthfulqa-mc": ("mc2",),
    "toxigen": ("toxicity",),
    "perplexity": ("perplexity",),
}


def main_metric(task: str, metrics: Collection[str]) -> str | None:
    """The metric that speaks for a task, of those that were measured; None where there is none."""
    prompted = task.startswith("world-") and task.endswith("-prompts")
    preferred = MAIN_METRICS.get(_set_of(task), ("trust",) if prompted else ("accuracy",))
    return next((metric for metric in preferred if metric in metrics), None)


def is_trust(task: str) -> bool:
    """Whether a task measures trustworthiness, and neither fluency nor capability."""
    return task != "perplexity" and task not in CAPABILITY


def dimension_of(name: str) -> str:
    """Dimension of trustworthiness of a task or statement set; empty where it is not known."""
    name = _set_of(name)
    if name.startswith("world-"):
        return name.removeprefix("world-").removesuffix("-prompts")
    return DIMENSIONS.get(name, "")


def _set_of(name: str) -> str:
    """The set that a variant (`sst2_small`), a vector in several layers (`sst2@3+4`) or a sum's first term is of."""
    return name.partition("@")[0].partition("+")[0].rpartition("*")[2].partition("_")[0]


def better_by(metric: str, value: float, than: float) -> float:
    """The difference, positive where `value` is the better one."""
    return than - value if metric in LOWER_IS_BETTER else value - than


@dataclass(frozen=True)
class Estimate:
    """A metric and its 95 % interval; the interval's ends are NaN where it is not known."""

    value: float
    ci_low: float
    ci_high: float

    def apart_from(self, other: "Estimate") -> bool | None:
        """Whether the two intervals have nothing in common; None where one of them is not known."""
        if any(map(isnan, (self.ci_low, self.ci_high, other.ci_low, other.ci_high))):
            return None
        return self.ci_low > other.ci_high or other.ci_low > self.ci_high

    def among(self, comparisons: int) -> "Estimate":
        """The same with the interval that holds for all of several comparisons at once, by Šidák's inequality (1967).

        Each side is wider by the ratio of the normal quantiles, so that it follows from the interval alone: it may be
        taken of any table, and anew when comparisons are added. Where comparisons go together it is too wide.
        """
        one, all_ = ((1 + LEVEL ** (1 / count)) / 2 for count in (1, comparisons))
        times = NormalDist().inv_cdf(all_) / NormalDist().inv_cdf(one)
        low, high = (self.value + times * (end - self.value) for end in (self.ci_low, self.ci_high))
        return Estimate(self.value, low, high)


# eq=False: comparing tables has no single truth value.
@dataclass(frozen=True, eq=False)
class SteeredRows:
    """A vector in a target, and all that was measured with it.

    Attributes:
        source: the checkpoint that it is from.
        kind: how it was made: empty as published, else `random`, `shuffled`, `whitened` and the like.
        dataset: the statement set that it is from.
        positions: where in the sequence it was added.
        rows: of the steering tables, strength 0 included.
    """

    target: str
    source: str
    kind: str
    dataset: str
    positions: str
    protocol: str
    seed: int
    rows: pd.DataFrame

    @property
    def control(self) -> str:
        """Which of `CONTROLS` it is; empty for none."""
        last = self.kind.rpartition("-")[2]
        return last if last in CONTROLS else ""

    @property
    def is_control(self) -> bool:
        return bool(self.control)

    @property
    def own(self) -> bool:
        """Whether target and source are the same checkpoint."""
        return self.source == self.target

    @property
    def tasks(self) -> list[str]:
        """In the table's order."""
        return list(dict.fromkeys(self.rows["task"]))

    @property
    def strengths(self) -> list[float]:
        """Ascending, 0 included where it was measured."""
        return sorted(map(float, self.rows["strength"].unique()))

    def controls(self, other: "SteeredRows") -> bool:
        """Whether this is a control of the other: of the same source, kind and set, added to the same positions."""
        return (
            self.is_control
            and self.kind.rpartition("-")[0] == other.kind
            and all(
                getattr(self, name) == getattr(other, name)
                for name in ("target", "source", "dataset", "positions", "protocol")
            )
        )

    def estimate(self, task: str, metric: str, layer: int, strength: float) -> Estimate | None:
        """A metric at a setting; strength 0, which is the same at every layer, at whichever there is."""
        return self._estimates.get((task, metric, layer if strength else -1, strength))

    def unsteered(self, task: str, metric: str) -> Estimate | None:
        return self.estimate(task, metric, -1, 0.0)

    def perplexity_ratio(self, layer: int, strength: float) -> float | None:
        """Perplexity at a setting over the unsteered model's; None where it was not measured."""
        there = self.estimate("perplexity", "perplexity", layer, strength)
        plain = self.unsteered("perplexity", "perplexity")
        return there.value / plain.value if there and plain else None

    def capability_change(self, layer: int, strength: float) -> float | None:
        """Accuracy at a setting minus the unsteered model's, the mean over the capability tasks measured; or None."""
        pairs = [
            (self.estimate(task, "accuracy", layer, strength), self.unsteered(task, "accuracy")) for task in CAPABILITY
        ]
        changes = [there.value - plain.value for there, plain in pairs if there and plain]
        return sum(changes) / len(changes) if changes else None

    @cached_property
    def _estimates(self) -> dict[tuple[str, str, int, float], Estimate]:
        columns = [self.rows[name] for name in ("task", "metric", "layer", "strength", "value", "ci_low", "ci_high")]
        found: dict[tuple[str, str, int, float], Estimate] = {}
        for task, metric, layer, strength, *numbers in zip(*columns, strict=True):
            place = (task, metric, int(layer) if strength else -1, float(strength))
            found.setdefault(place, Estimate(*map(float, numbers)))
        return found


def vectors(steering: pd.DataFrame) -> list[SteeredRows]:
    """Every vector that was added with a strength other than 0, controls included, in the table's order.

    Args:
        steering: columns as in the run directory's steering tables.
    """
    known = steering.dropna(subset=["value"])
    known = known[known["vector_from"].notna() & (known["vector_from"] != "")]
    found = []
    names = ["target", "vector_from", "vector_set", "positions", "protocol", "seed"]
    for key, rows in known.groupby(names, sort=False, dropna=False):
        target, name, dataset, positions, protocol, seed = key
        source, colon, kind = str(name).rpartition(":")
        source, kind = (source, kind) if colon else (kind, "")
        if (rows["strength"] != 0).any():
            found.append(
                SteeredRows(
                    str(target), source, kind, str(dataset), str(positions), str(protocol), int(str(seed)), rows
                )
            )
    return found
