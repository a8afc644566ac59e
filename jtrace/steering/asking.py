"""A batch of conditions asked of a model: completions that are kept are taken, others are made and kept at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jtrace.evaluation.answers import Completions, ask
from jtrace.evaluation.task import Prompt, Task
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

    @property
    def unsteered(self) -> dict[int, list[int]]:
        """The unsteered model's tokens by the item's index: without steering all layers are one."""
        return {index: tokens for ((_, strength), index), tokens in self.tokens.items() if strength == 0}

    def cover_unsteered(self, task: Task) -> bool:
        """Tell whether the unsteered model's completion of every item is there."""
        return {item.index for item in task.items} <= self.unsteered.keys()

    def of_batch(self, items: Sequence[Prompt], batch: Batch) -> dict[int, Completions]:
        """By the item's place: a completion for each of the batch's columns, of items that have all of them."""
        unsteered = self.unsteered
        whole = {}
        for place, item in enumerate(items):
            columns = [
                unsteered.get(item.index)
                if column[0].strength == 0
                else self.tokens.get((column[0].setting, item.index))
                for column in batch.columns
            ]
            known = [np.array(tokens, np.int32) for tokens in columns if tokens is not None]
            if len(known) == len(columns):
                whole[place] = known
        return whole


@dataclass(frozen=True)
class Measured:
    """Outcomes of a batch: of the unsteered model, None where it was not asked, and of each steered condition."""

    unsteered: Outcomes | None
    steered: tuple[Outcomes, ...]


def ask_batch(
    model: LanguageModel,
    series: Series,
    batch: Batch,
    kept: KeptCompletions,
    file: SteeringTable,
    progress: str | None = None,
) -> Measured:
    """Ask a task under every condition of a batch, and measure the answers.

    Args:
        kept: what the file holds.
        file: that further completions are added to, as soon as they are there.
        progress: label of progress bars; none is shown if None.

    Raises:
        InputError: an item that the model cannot take, or a file that cannot be written.
    """
    numbers = batch.numbers
    if not numbers:
        return Measured(None, ())
    task, items = series.task, [item for item in series.task.items if isinstance(item, Prompt)]

    def keep(place: int, completions: Completions) -> None:
        item = items[place]
        lines = [
            completion_line(series, item, condition, tokens, text)
            for column, tokens, text in zip(batch.columns, completions, model.decode(completions), strict=True)
            for condition in column
            if not kept.has(condition, item.index)
        ]
        if lines:
            file.append(lines)

    known = kept.of_batch(items, batch)
    for place, completions in known.items():
        keep(place, completions)
    edit = edit_of(series.vector, batch.steered, series.config.operator) if batch.steered else None
    how = series.config.decoding
    answers = ask(model, task, edit, numbers, how, kept=known, keep=keep, progress=progress)
    outcomes = [task.measure(of_condition) for of_condition in answers]
    if batch.unsteered:
        return Measured(outcomes[0], tuple(outcomes[1:]))
    return Measured(None, tuple(outcomes))
