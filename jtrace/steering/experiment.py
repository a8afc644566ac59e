"""Steering a target: vectors × layers × strengths × tasks → tables in RUN/steering, completions in RUN/completions.

A setting is computed once: what is on disk already, tables or completions, is taken from there.
"""

import itertools
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jax.numpy as jnp
import pandas as pd

from jtrace.evaluation.answers import check_lengths
from jtrace.evaluation.task import Task
from jtrace.inference.language_model import LanguageModel
from jtrace.runs.steering_files import merged, move_completions
from jtrace.steering.asking import Answered, KeptCompletions, ask_batch, keep_completions
from jtrace.steering.conditions import Plan, SteerConfig, batches, plans
from jtrace.steering.table import (
    Series,
    Target,
    measured_rows,
    missing_conditions,
    rows_of_conditions,
    summary,
    with_rows,
)
from jtrace.steering.vector import SteeringVector


def check_steering(
    model: LanguageModel, vectors: Sequence[SteeringVector], tasks: Sequence[Task], config: SteerConfig
) -> None:
    """Refuse, before anything is computed, what `steer` could not do.

    Raises:
        InputError: a layer that a vector was not made for, a strength that is not finite, or an item that the model
            cannot take.
    """
    for vector in vectors:
        list(plans(vector, model, config))
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
        All rows, columns as `jtrace.runs.steering_files.SCHEMA`.

    Raises:
        InputError: as `check_steering`, or files that cannot be read or written; what was computed is kept.
    """
    every = [(vector, plan) for vector in vectors for plan in plans(vector, model, config)]
    move_completions(folder)
    target = Target(model.name, str(jnp.dtype(model.dtype)), weights)
    unsteered: dict[Task, Answered] = {}
    tables = []
    for number, ((vector, plan), task) in enumerate(itertools.product(every, tasks), 1):
        series = Series(target, vector, plan.dataset, task, config)
        how = f"{plan.dataset} of {vector.source}" if vector.source else "as it is"
        label = f"[{number}/{len(every) * len(tasks)}] {task.name} ({'+'.join(series.protocols)}), {how}"
        started = time.perf_counter()
        rows = _complete(folder, model, series, plan, unsteered, None if quiet else label)
        tables.append(rows)
        if not quiet:
            print(f"{label}: {summary(task, rows)}, {time.perf_counter() - started:.1f} s", flush=True)
    return pd.concat(tables, ignore_index=True)


def _complete(
    folder: Path,
    model: LanguageModel,
    series: Series,
    plan: Plan,
    unsteered: dict[Task, Answered],
    progress: str | None,
) -> pd.DataFrame:
    """Compute what a table is missing, written after every batch; returns all rows that the plan asks for.

    Args:
        unsteered: the unsteered model's answers by task; those of this task are added.
    """
    file, task = series.files(folder), series.task
    table = file.read_table()
    if missing := missing_conditions(series, table, plan.conditions):
        kept = KeptCompletions(file.read_completions())
        for batch in batches(plan, missing, measured=task in unsteered):
            if batch.unsteered and task in unsteered:
                answered = unsteered[task]
                keep_completions(model, series, batch, kept, file, answered.completions)
            else:
                answered = ask_batch(model, series, batch, kept, file, progress)
            if batch.unsteered:
                unsteered[task] = answered
            (base,) = unsteered[task].outcomes
            rows = [
                row
                for column, outcomes in zip(batch.columns, answered.outcomes, strict=True)
                for condition in column
                if condition in missing
                for row in measured_rows(series, condition, outcomes, base)
            ]
            if rows:
                with file.alone():  # another command may have added rows meanwhile
                    table = with_rows(series, merged([file.read_table(), table]), rows)
                    file.write_table(table, datetime.now(UTC).isoformat(timespec="microseconds"))
    return rows_of_conditions(table, plan.conditions)
