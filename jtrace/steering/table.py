"""A steering table's rows: outcomes of conditions → metrics with intervals, and the setting that is chosen."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jtrace.evaluation.outcomes import estimate, interval, validation_part
from jtrace.evaluation.task import Outcome, Prompt, Task
from jtrace.probing.protocols import Protocol
from jtrace.runs.names import Placement
from jtrace.runs.steering_files import CHOSEN, COLUMNS, DIFFERENCE, VALIDATION, SteeringTable, merged
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.vector import Condition, SteeringVector

Outcomes = Mapping[str, Outcome]


@dataclass(frozen=True)
class Target:
    """A model as tables name it.

    Attributes:
        dtype: of params and forward.
        weights: tells its content from others of the same name (`checkpoints.content.Content.key`).
    """

    name: str
    dtype: str
    weights: str


@dataclass(frozen=True)
class Series:
    """The common part of one table's rows: a target under one vector, asked one task.

    Attributes:
        dataset: the vector's set, and the layers where several are steered at once.
    """

    target: Target
    vector: SteeringVector
    dataset: str
    task: Task
    config: SteerConfig

    @property
    def seed(self) -> int:
        """The control's, or else that of the settings."""
        return self.config.seed if self.vector.seed is None else self.vector.seed

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Protocols that are wanted and that the task measures."""
        return tuple(protocol for protocol in self.config.protocols if protocol in self.task.protocols)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """Items that the task wants completed."""
        return tuple(item for item in self.task.items if isinstance(item, Prompt))

    def files(self, folder: Path) -> SteeringTable:
        """The table's files in RUN/steering; all that decides their numbers, but layers and strengths, names them."""
        config, task, vector = self.config, self.task, self.vector
        asked = () if task.asker is None else (repr(task.asker),)
        content = repr((task.name, task.protocols, task.max_new_tokens, task.items, *asked))
        settings = {
            "weights": self.target.weights,
            "vector": hashlib.sha256(vector.values.tobytes()).hexdigest() if vector.source else None,
            "dtype": self.target.dtype,
            "operator": config.operator,
            "positions": config.positions,
            "temperature": config.temperature,
            "seed": config.seed,
            "task": hashlib.sha256(content.encode()).hexdigest(),
            **({"special_tokens": config.special_tokens} if config.special_tokens != "parse" else {}),
        }
        return SteeringTable(folder, (self.target.name, vector.source, self.dataset, task.name), settings, task.key)


def missing_conditions(series: Series, table: pd.DataFrame, conditions: Sequence[Condition]) -> list[Condition]:
    """Conditions that a table lacks rows of under one of the series' protocols."""
    complete = {
        setting
        for setting, rows in table.groupby(["layer", "strength"])
        if set(series.protocols) <= set(rows["protocol"])
    }
    return [condition for condition in conditions if condition.setting not in complete]


def rows_of_conditions(table: pd.DataFrame, conditions: Sequence[Condition]) -> pd.DataFrame:
    """The rows of a table that belong to some conditions."""
    wanted = pd.MultiIndex.from_tuples([condition.setting for condition in conditions])
    return table[table.set_index(["layer", "strength"]).index.isin(wanted)]


def with_rows(series: Series, table: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table with further rows, in which the chosen setting is chosen anew."""
    measured = table[~table["metric"].str.startswith(CHOSEN)]
    table = merged([measured, pd.DataFrame(rows, columns=COLUMNS)])
    return merged([table, _chosen(series.task, table)])


def measured_rows(
    series: Series, condition: Condition, outcomes: Outcomes, unsteered: Outcomes
) -> Iterator[dict[str, Any]]:
    """A row of every metric under every protocol, and one of what the main metric has gained on the unsteered model.

    Args:
        unsteered: its outcomes; the very same object as `outcomes` of a condition of strength 0.
    """
    chosen_on = validation_part(series.task.items, series.config.seed)
    for protocol in series.protocols:
        parts = {"": None} if protocol == "paper" else {"": ~chosen_on, VALIDATION: chosen_on}
        for (prefix, items), (metric, outcome) in itertools.product(parts.items(), outcomes.items()):
            row = partial(_row, series, condition, protocol, outcome, items)
            yield row(prefix + metric)
            if metric == series.task.main and outcomes is not unsteered and not prefix:
                yield row(DIFFERENCE + metric, base=unsteered[metric])


def completion_line(
    series: Series, item: Prompt, condition: Condition, tokens: np.ndarray, text: str
) -> dict[str, Any]:
    """A completion as it is kept, JSON values."""
    layer, strength = condition.setting
    return {
        "target": series.target.name,
        "vector_from": series.vector.source,
        "vector_set": series.dataset,
        "task": series.task.name,
        "index": item.index,
        "layer": layer,
        "strength": strength,
        "positions": series.config.positions,
        "operator": series.config.operator,
        "temperature": series.config.temperature,
        "seed": series.seed,
        "prompt": item.text,
        "completion": text,
        "tokens": tokens.tolist(),
        "max_new_tokens": series.task.max_new_tokens,
    }


def summary(task: Task, rows: pd.DataFrame) -> str:
    """The main metric unsteered and where it is best, both on the rows of one protocol."""
    name = task.main
    main = rows[rows["metric"] == name].dropna(subset="value")
    if main.empty:
        return f"no {name}: of {len(task.items)} answers none can be judged"
    main = main[main["protocol"] == main["protocol"].iloc[0]]
    plain, tried = (main[(main["strength"] == 0) == unsteered] for unsteered in (True, False))
    if tried.empty:
        return f"{name} {plain['value'].iloc[0]:.3f}"
    best = _best(tried, task.higher_is_better)
    start = f"{plain['value'].iloc[0]:.3f} unsteered, " if len(plain) else ""
    more = int((tried["value"] == best["value"]).sum()) - 1
    where = f"layer {best['layer']}, strength {best['strength']:g}" + (f", tied with {more} more" if more else "")
    return f"{name} {start}best {best['value']:.3f} ({where})"


def _row(
    series: Series,
    condition: Condition,
    protocol: Protocol,
    outcome: Outcome,
    items: np.ndarray | None,
    metric: str,
    base: Outcome | None = None,
) -> dict[str, Any]:
    """Args: items: which of the task's items count, bool; None for all. base: that the outcome is told less of."""
    task, config = series.task, series.config
    value = estimate(outcome, items) - (0.0 if base is None else estimate(base, items))
    low, high = interval(outcome, task.items, config.seed, items, base) or (np.nan, np.nan)
    layer, strength = condition.setting
    return {
        "target": series.target.name,
        "vector_from": series.vector.source,
        "vector_set": series.dataset,
        "layer": layer,
        "strength": strength,
        "positions": str(Placement(config.positions, config.operator)),
        "task": task.name,
        "metric": metric,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "n": int((outcome.weights if items is None else outcome.weights * items).sum()),
        "protocol": protocol,
        "seed": series.seed,
    }


def _chosen(task: Task, table: pd.DataFrame) -> pd.DataFrame:
    """Protocol sound: the setting that is best on the validation part, and its value on the rest."""
    sound = table[table["protocol"] == "sound"]
    validated = sound[sound["metric"] == VALIDATION + task.main].dropna(subset="value")
    if validated.empty:
        return table.iloc[:0]
    best = _best(validated, task.higher_is_better)
    same = (sound["layer"] == best["layer"]) & (sound["strength"] == best["strength"])
    return sound[same & (sound["metric"] == task.main)].assign(metric=CHOSEN + task.main)


def _best(rows: pd.DataFrame, higher_is_better: bool) -> pd.Series:
    """The row of the best value; of equals the weakest, at the lowest layer: what need not be done is not."""
    score = rows["value"] * (-1 if higher_is_better else 1)
    order = rows.assign(score=score, size=rows["strength"].abs())
    return order.sort_values(["score", "size", "layer"], kind="stable").iloc[0]
