"""Steering a target: vectors × layers × strengths × tasks → tables in RUN/steering, completions in RUN/completions.

A setting is computed once: what is on disk already, tables or completions, is taken from there.
"""

import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jtrace.data.tokenizer import SpecialTokens
from jtrace.errors import InputError
from jtrace.evaluation.answers import Completions, Decoding, ask, check_lengths
from jtrace.evaluation.outcomes import estimate, interval, validation_part
from jtrace.evaluation.task import Outcome, Prompt, Task
from jtrace.inference.language_model import LanguageModel
from jtrace.models.intervention import Positions
from jtrace.probing.vectors import Vectors, random_vector
from jtrace.runs.steering_files import (
    CHOSEN,
    DIFFERENCE,
    SCHEMA,
    VALIDATION,
    Setting,
    SteeringTable,
    control_name,
    merged,
    move_completions,
)
from jtrace.steering.vector import Condition, Operator, SteeringVector, edit_of

# Conditions that are computed together.
MOST_CONDITIONS = 32
Outcomes = Mapping[str, Outcome]


@dataclass(frozen=True)
class SteerConfig:
    """How a target is steered and asked.

    Attributes:
        layers: each one layer, or several that are steered at once; None for each layer by itself.
        strengths: finite.
        special_tokens: what special tokens that are written out in a text are read as.
        random: seeds of the random directions of equal norm that each vector is compared with.
        seed: of sampling, guesses, intervals and the validation part.
    """

    strengths: tuple[float, ...]
    layers: tuple[tuple[int, ...], ...] | None = None
    protocols: tuple[str, ...] = ("paper",)
    operator: Operator = "add"
    positions: Positions = "last"
    temperature: float = 0.0
    special_tokens: SpecialTokens = "parse"
    random: tuple[int, ...] = ()
    seed: int = 0

    @property
    def asking(self) -> Decoding:
        return Decoding(self.positions, self.temperature, self.seed)


def vectors_for(model: LanguageModel, found: Vectors, path: Path, any_family: bool) -> dict[str, SteeringVector]:
    """The vectors of a file by set, in the layers of a target.

    Args:
        any_family: whether vectors of another family or depth will do, if their width is the target's.

    Raises:
        InputError: they are of another width or, unless `any_family`, of another family or depth; or it is not known
            which layers they are of.
    """
    depth, width = model.config.depth, model.config.width
    own = next(iter(found.arrays.values())).shape[1]
    if own != width:
        raise InputError(
            f"{path}: vectors of width {own}; {model.name} has width {width}, take those of its base model"
        )
    about = found.model
    if about and (about.model_type, about.depth) != (model.model_type, depth) and not any_family:
        raise InputError(
            f"{path}: vectors of a {about.model_type} model of {about.depth} layers; {model.name} is a "
            f"{model.model_type} model of {depth}; pass --any_family if that is meant"
        )
    if not found.layers_known and len(found.layers) != depth:
        raise InputError(
            f"{path}: {len(found.layers)} rows of unknown layers for the {depth} of {model.name}; "
            f"name each row's by --vector_layers, as --vector_layers=embedding,0-{depth - 1} of hidden states"
        )
    kept = [at for at, layer in enumerate(found.layers) if layer < depth]
    if not kept:
        raise InputError(f"{path}: vectors of layers {min(found.layers)} and up; {model.name} has {depth} layers")
    source = found.checkpoint + ("" if found.kind in (None, "mass_mean") else f":{found.kind}")
    by_set = {}
    for name, array in found.arrays.items():
        values = np.zeros((depth, width), np.float32)
        values[[found.layers[at] for at in kept]] = array[kept]
        layers = tuple(sorted(found.layers[at] for at in kept))
        by_set[name] = SteeringVector(values, layers, source, name, found.one_is_good[name])
    return by_set


def with_controls(vectors: Sequence[SteeringVector], seeds: Sequence[int]) -> list[SteeringVector]:
    """Each vector, followed by a random direction of equal norm for each seed.

    Raises:
        InputError: two vectors of one name.
    """
    names = [(vector.source, vector.dataset) for vector in vectors]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"--vectors: two files hold a vector of {twice[0]} for {twice[1]}; leave one out")
    found = []
    for vector in vectors:
        found.append(vector)
        for seed in seeds:
            values, source = random_vector(vector.values, seed), control_name(vector.source)
            found.append(replace(vector, values=values, source=source, one_is_good=None, seed=seed))
    return found


def check_steering(
    model: LanguageModel, vectors: Sequence[SteeringVector], tasks: Sequence[Task], config: SteerConfig
) -> None:
    """Refuse, before anything is computed, what `steer` could not do.

    Raises:
        InputError: a layer that a vector was not made for, a strength that is not finite, or an item that the model
            cannot take.
    """
    for vector in vectors:
        list(_plans(vector, model, config))
    for task in tasks:
        check_lengths(model, task)


def steer(
    folder: Path,
    model: LanguageModel,
    vectors: Sequence[SteeringVector],
    tasks: Sequence[Task],
    config: SteerConfig,
    weights: str,
    *,
    quiet: bool = False,
) -> pd.DataFrame:
    """Ask every task under every vector, layer and strength.

    Args:
        folder: RUN/steering, which is there.
        vectors: controls among them.
        weights: tells the target's content from others of the same name (`checkpoints.content.Content.key`).

    Returns:
        All rows, columns as `steering_results.SCHEMA`.

    Raises:
        InputError: as `check_steering`, or files that cannot be read or written; what was computed is kept.
    """
    plans = [(vector, plan) for vector in vectors for plan in _plans(vector, model, config)]
    move_completions(folder)
    baselines: dict[Task, Outcomes] = {}
    found = []
    for number, ((vector, plan), task) in enumerate(itertools.product(plans, tasks), 1):
        measured = "+".join(protocol for protocol in config.protocols if protocol in task.protocols)
        how = f"{plan.dataset} of {vector.source}" if vector.source else "as it is"
        label = f"[{number}/{len(plans) * len(tasks)}] {task.name} ({measured}), {how}"
        unit = unit_of(folder, model.name, vector, plan.dataset, task, config, str(jnp.dtype(model.dtype)), weights)
        started = time.perf_counter()
        worker = _SteeringTableBuilder(unit, model, vector, plan, task, config, baselines, None if quiet else label)
        rows = worker.run()
        found.append(rows)
        if not quiet:
            print(f"{label}: {worker.summary(rows)}, {time.perf_counter() - started:.1f} s", flush=True)
    return pd.concat(found, ignore_index=True)


def unit_of(
    folder: Path,
    target: str,
    vector: SteeringVector,
    dataset: str,
    task: Task,
    config: SteerConfig,
    dtype: str,
    weights: str,
) -> SteeringTable:
    """The files of a vector and task; all that decides their numbers, but for layers and strengths, names them."""
    content = repr((task.name, task.protocols, task.max_new_tokens, task.items))
    settings = {
        "weights": weights,
        "vector": hashlib.sha256(vector.values.tobytes()).hexdigest() if vector.source else None,
        "dtype": dtype,
        "operator": config.operator,
        "positions": config.positions,
        "temperature": config.temperature,
        "seed": config.seed,
        "task": hashlib.sha256(content.encode()).hexdigest(),
        **({"special_tokens": config.special_tokens} if config.special_tokens != "parse" else {}),
    }
    return SteeringTable(folder, (target, vector.source, dataset, task.name), settings, task.key)


@dataclass(frozen=True)
class _Plan:
    """The conditions of one table; `dataset` names the set, and the layers where several are steered at once."""

    dataset: str
    conditions: tuple[Condition, ...]


def _plans(vector: SteeringVector, model: LanguageModel, config: SteerConfig) -> Iterator[_Plan]:
    layers = tuple((layer,) for layer in vector.layers) if config.layers is None else config.layers
    for layer in itertools.chain.from_iterable(layers):
        if not 0 <= layer < model.config.depth:
            raise InputError(f"--layers asks for {layer}; {model.name} has layers 0 to {model.config.depth - 1}")
    groups: dict[str, list[Condition]] = {}
    for several, strength in itertools.product(layers, config.strengths):
        suffix = "" if len(several) == 1 else "@" + "+".join(map(str, several))
        groups.setdefault(vector.dataset + suffix, []).append(Condition(several, strength))
    for dataset, conditions in groups.items():
        edit_of(vector, conditions, config.operator)  # refuses what cannot be
        yield _Plan(dataset, tuple(conditions))


class _SteeringTableBuilder:
    """One table: what is missing of it is computed, and written after every group of conditions."""

    def __init__(
        self,
        unit: SteeringTable,
        model: LanguageModel,
        vector: SteeringVector,
        plan: _Plan,
        task: Task,
        config: SteerConfig,
        baselines: dict[Task, Outcomes],
        progress: str | None,
    ) -> None:
        self.unit, self.model, self.vector, self.plan = unit, model, vector, plan
        self.task, self.config, self.baselines, self.progress = task, config, baselines, progress
        self.seed = config.seed if vector.seed is None else vector.seed
        self.protocols = tuple(protocol for protocol in config.protocols if protocol in task.protocols)

    def run(self) -> pd.DataFrame:
        """All rows of the table that the plan asks for."""
        table = self.unit.read_table()
        there = {
            setting
            for setting, rows in table.groupby(["layer", "strength"])
            if set(self.protocols) <= set(rows["protocol"])
        }
        missing = [c for c in self.plan.conditions if _setting(c) not in there]
        alone, steered = ([c for c in missing if (c.strength == 0) is plain] for plain in (True, False))
        if missing:
            kept = self.unit.read_completions()
            complete = {item.index for item in self.task.items} <= {i for (_, strength), i in kept if strength == 0}
            fresh = self.task not in self.baselines
            # What is kept of the unsteered model is not made again because another strength is missing.
            by_itself = (fresh and not alone) or (complete and (fresh or bool(alone)))
            if by_itself:
                self._outcomes((), alone or [Condition(self.plan.conditions[0].layers, 0.0)], kept)
            for first in range(0, max(1, len(steered)), MOST_CONDITIONS):
                chunk, unsteered = steered[first : first + MOST_CONDITIONS], alone if first == 0 else []
                outcomes = self._outcomes(chunk, [] if by_itself else unsteered, kept)
                base = self.baselines[self.task]
                rows = [row for c, found in outcomes for row in self._rows(c, found, base)]
                rows += [row for c in unsteered for row in self._rows(c, base, base)]
                own = table[~table["metric"].str.startswith(CHOSEN)]
                table = merged([own, pd.DataFrame(rows, columns=SCHEMA.names)])
                table = merged([table, self._chosen(table)])
                self.unit.write_table(table, datetime.now(UTC).isoformat(timespec="microseconds"))
        wanted = pd.MultiIndex.from_tuples([_setting(c) for c in self.plan.conditions])
        return table[table.set_index(["layer", "strength"]).index.isin(wanted)]

    def _outcomes(
        self, steered: Sequence[Condition], alone: Sequence[Condition], kept: Mapping[tuple[Setting, int], list[int]]
    ) -> list[tuple[Condition, Outcomes]]:
        """Of steered conditions; the unsteered model's go to the baselines if they are not there yet."""
        items = [item for item in self.task.items if isinstance(item, Prompt)]
        fresh = self.task not in self.baselines
        numbers = [*([0] if fresh or (alone and items) else []), *range(1, len(steered) + 1)]
        if not numbers:
            return []
        settings = {0: [_setting(c) for c in alone], **{i: [_setting(c)] for i, c in enumerate(steered, 1)}}

        def keep(place: int, completions: Completions) -> None:
            index = items[place].index
            lines = [
                self._line(items[place], setting, tokens, text)
                for number, tokens, text in zip(numbers, completions, self.model.decode(completions), strict=True)
                for setting in settings[number]
                if (setting, index) not in kept
            ]
            if lines:
                self.unit.append(lines)

        # Without steering all layers are one.
        unsteered = {index: tokens for ((_, strength), index), tokens in kept.items() if strength == 0}
        known = {}
        for place, item in enumerate(items):
            found = [kept.get((settings[n][0], item.index)) if n else unsteered.get(item.index) for n in numbers]
            if all(tokens is not None for tokens in found):
                known[place] = [np.array(tokens, np.int32) for tokens in found]
                keep(place, known[place])
        answers = ask(
            self.model,
            self.task,
            edit_of(self.vector, steered, self.config.operator) if steered else None,
            numbers,
            self.config.asking,
            kept=known,
            keep=keep,
            progress=self.progress,
        )
        measured = dict(zip(numbers, map(self.task.measure, answers), strict=True))
        if 0 in measured:
            self.baselines[self.task] = measured.pop(0)
        return [(steered[number - 1], outcomes) for number, outcomes in measured.items()]

    def _line(self, item: Prompt, setting: Setting, tokens: np.ndarray, text: str) -> dict[str, Any]:
        layer, strength = setting
        return {
            "target": self.model.name,
            "vector_from": self.vector.source,
            "vector_set": self.plan.dataset,
            "task": self.task.name,
            "index": item.index,
            "layer": layer,
            "strength": strength,
            "positions": self.config.positions,
            "operator": self.config.operator,
            "temperature": self.config.temperature,
            "seed": self.seed,
            "prompt": item.text,
            "completion": text,
            "tokens": tokens.tolist(),
            "max_new_tokens": self.task.max_new_tokens,
        }

    def _rows(self, condition: Condition, outcomes: Outcomes, base: Outcomes) -> Iterator[dict[str, Any]]:
        """Of every metric under every protocol, and what the main one has gained on the unsteered model."""
        chosen_on = validation_part(self.task.items, self.config.seed)
        for protocol in self.protocols:
            parts = {"": None} if protocol == "paper" else {"": ~chosen_on, VALIDATION: chosen_on}
            for (prefix, rows), (metric, outcome) in itertools.product(parts.items(), outcomes.items()):
                row = partial(self._row, condition, protocol, outcome, rows)
                yield row(prefix + metric)
                if metric == self.task.main and outcome is not base.get(metric) and not prefix:
                    yield row(DIFFERENCE + metric, base=base[metric])

    def _row(
        self,
        condition: Condition,
        protocol: str,
        outcome: Outcome,
        rows: np.ndarray | None,
        metric: str,
        base: Outcome | None = None,
    ) -> dict[str, Any]:
        value = estimate(outcome, rows) - (0.0 if base is None else estimate(base, rows))
        low, high = interval(outcome, self.task.items, self.config.seed, rows, base) or (np.nan, np.nan)
        layer, strength = _setting(condition)
        return {
            "target": self.model.name,
            "vector_from": self.vector.source,
            "vector_set": self.plan.dataset,
            "layer": layer,
            "strength": strength,
            "positions": self.config.positions + ("" if self.config.operator == "add" else f" {self.config.operator}"),
            "task": self.task.name,
            "metric": metric,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": int((outcome.weights if rows is None else outcome.weights * rows).sum()),
            "protocol": protocol,
            "seed": self.seed,
        }

    def _chosen(self, table: pd.DataFrame) -> pd.DataFrame:
        """Protocol sound: the setting that is best on the validation part, and its value on the rest."""
        main = self.task.main
        sound = table[table["protocol"] == "sound"]
        validated = sound[sound["metric"] == VALIDATION + main].dropna(subset="value")
        if validated.empty:
            return table.iloc[:0]
        best = _best(validated, self.task.higher_is_better)
        same = (sound["layer"] == best["layer"]) & (sound["strength"] == best["strength"])
        return sound[same & (sound["metric"] == main)].assign(metric=CHOSEN + main)

    def summary(self, rows: pd.DataFrame) -> str:
        """The main metric unsteered and where it is best, both on the rows of one protocol."""
        name = self.task.main
        main = rows[rows["metric"] == name].dropna(subset="value")
        if main.empty:
            return f"no {name}: of {len(self.task.items)} answers none can be judged"
        main = main[main["protocol"] == main["protocol"].iloc[0]]
        plain, tried = (main[(main["strength"] == 0) == unsteered] for unsteered in (True, False))
        if tried.empty:
            return f"{name} {plain['value'].iloc[0]:.3f}"
        best = _best(tried, self.task.higher_is_better)
        start = f"{plain['value'].iloc[0]:.3f} unsteered, " if len(plain) else ""
        more = int((tried["value"] == best["value"]).sum()) - 1
        where = f"layer {best['layer']}, strength {best['strength']:g}" + (f", tied with {more} more" if more else "")
        return f"{name} {start}best {best['value']:.3f} ({where})"


def _best(rows: pd.DataFrame, higher_is_better: bool) -> pd.Series:
    """The row of the best value; of equals the weakest, at the lowest layer: what need not be done is not."""
    score = rows["value"] * (-1 if higher_is_better else 1)
    order = rows.assign(score=score, size=rows["strength"].abs())
    return order.sort_values(["score", "size", "layer"], kind="stable").iloc[0]


def _setting(condition: Condition) -> Setting:
    return condition.layers[0], condition.strength
