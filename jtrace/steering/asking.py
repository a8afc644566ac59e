"""A batch of conditions asked of a model: completions that are kept are taken, others are made and kept at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jtrace.evaluation.answers import Completions, ask
from jtrace.evaluation.task import Prompt
from jtrace.inference.language_model import LanguageModel
from jtrace.runs.steering_files import Setting, SteeringTable
from jtrace.steering.conditions import Batch
from jtrace.steering.table import Outcomes, Series, completion_line
from jtrace.steering.vector import Condition, edit_of


@dataclass(frozen=True)
class KeptCompletions:
    """Completions in a table's file.

    Attributes:
        tokens: by setting and the item's index.
    """

    tokens: Mapping[tuple[Setting, int], list[int]]

    def has(self, condition: Condition, index: int) -> bool:
        """Tell whether an item's completion under a condition is in the file."""
        return (condition.setting, index) in self.tokens

    def of_batch(self, items: Sequence[Prompt], batch: Batch) -> dict[int, Completions]:
        """By the item's place: a completion for each of the batch's columns, of items that have all of them."""
        if batch.unsteered:  # without steering all layers are one model
            unsteered = {index: tokens for ((_, strength), index), tokens in self.tokens.items() if strength == 0}
            kept = [[unsteered.get(item.index)] for item in items]
        else:
            kept = [[self.tokens.get((c.setting, item.index)) for c in batch.steered] for item in items]
        completions = [[np.array(tokens, np.int32) for tokens in row if tokens is not None] for row in kept]
        return {place: row for place, row in enumerate(completions) if len(row) == len(batch.columns)}


@dataclass(frozen=True)
class Answered:
    """Answers to a batch, as a task measures and keeps them.

    Attributes:
        outcomes: of each column of the batch.
        completions: by the item's place, a completion for each column.
    """

    outcomes: tuple[Outcomes, ...]
    completions: Mapping[int, Completions]


def ask_batch(
    model: LanguageModel,
    series: Series,
    batch: Batch,
    kept: KeptCompletions,
    file: SteeringTable,
    progress: str | None = None,
) -> Answered:
    """Ask a task under every condition of a batch, and measure the answers.

    Args:
        kept: what the file holds.
        file: that further completions are added to, as soon as they are there.
        progress: label of progress bars; none is shown if None.

    Raises:
        InputError: an item that the model cannot take, or a file that cannot be written.
    """
    task = series.task
    completions = kept.of_batch(series.prompts, batch)
    keep_completions(model, series, batch, kept, file, completions)

    def keep(place: int, made: Completions) -> None:
        completions[place] = made
        keep_completions(model, series, batch, kept, file, {place: made})

    edit = edit_of(series.vector, batch.steered, series.config.operator) if batch.steered else None
    known = dict(completions)
    answers = ask(model, task, edit, batch.numbers, series.config.decoding, kept=known, keep=keep, progress=progress)
    return Answered(tuple(task.measure(of_condition) for of_condition in answers), completions)


def keep_completions(
    model: LanguageModel,
    series: Series,
    batch: Batch,
    kept: KeptCompletions,
    file: SteeringTable,
    completions: Mapping[int, Completions],
) -> None:
    """Add a line to the file for every completion of a batch that it lacks.

    Args:
        completions: by the item's place, a completion for each column.
    """
    items = series.prompts
    for place, of_columns in completions.items():
        lines = [
            completion_line(series, items[place], condition, tokens, text)
            for column, tokens, text in zip(batch.columns, of_columns, model.decode(of_columns), strict=True)
            for condition in column
            if not kept.has(condition, items[place].index)
        ]
        if lines:
            file.append(lines)
