"""A task's items under some conditions → the model's answers to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jtrace.evaluation.perplexity import documents, part_at, windows
from jtrace.evaluation.task import Choice, Completion, Likelihood, Prompt, Task, Text
from jtrace.inference.continuations import check_length, continuation_pairs
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.language_model import LanguageModel
from jtrace.inference.score import Pair, score
from jtrace.models.intervention import Edit, Positions

# Longest window of a text, in tokens; half of it is context.
WINDOW = 1024
# An item's completions as token ids, one array per condition.
Completions = list[np.ndarray]


@dataclass(frozen=True)
class Decoding:
    """Settings of asking that hold for every task.

    Attributes:
        temperature, seed: of completions; see `generate.Sampling`.
    """

    positions: Positions = "last"
    temperature: float = 0.0
    seed: int = 0


class Asker(Protocol):
    """A way to ask a task's items that is another tool's, for `Task.asker`."""

    def check(self, model: LanguageModel) -> None:
        """Refuses, before anything is computed, what the model cannot be asked.

        Raises:
            InputError: there is such an item.
        """

    def ask(
        self,
        model: LanguageModel,
        edit: Edit | None,
        conditions: Sequence[int],
        how: Decoding,
        *,
        kept: Mapping[int, Completions] | None,
        keep: Callable[[int, Completions], None] | None,
        progress: str | None,
    ) -> list[list[Any]]:
        """The answers to all items, as `jtrace.evaluation.answers.ask` gives them."""


def ask(
    model: LanguageModel,
    task: Task,
    edit: Edit | None,
    conditions: Sequence[int],
    how: Decoding,
    *,
    kept: Mapping[int, Completions] | None = None,
    keep: Callable[[int, Completions], None] | None = None,
    progress: str | None = None,
) -> list[list[Any]]:
    """The answers to all items, one list per condition, as `Task.measure` takes them.

    Args:
        edit: see `jtrace.steering.vector.edit_of`; None where condition 0 is the only one.
        kept: completions that are there already, by the item's place in the task.
        keep: is told each further item's completions as soon as they are there.
        progress: label of progress bars; none is shown if None.

    Raises:
        InputError: an item is longer than the model's context, or empty to its tokeniser.
    """
    if task.asker is not None:
        asker: Asker = task.asker
        return asker.ask(model, edit, conditions, how, kept=kept, keep=keep, progress=progress)
    match task.items[0]:
        case Choice():
            return _choose(model, task, edit, conditions, how, progress)
        case Prompt():
            completions = {**(kept or {})}
            _complete(model, task, edit, conditions, how, completions, keep, progress)
            by_condition = zip(*(completions[i] for i in range(len(task.items))), strict=True)
            return [_completions(model, list(tokens)) for tokens in by_condition]
        case Text():
            return _predict(model, task, edit, conditions, how, progress)


def check_lengths(model: LanguageModel, task: Task) -> None:
    """Refuse a task of which an item is longer than the context, empty to the tokeniser, or beyond the embedding.

    Raises:
        InputError: such an item, by task and row.
    """
    if task.asker is not None:
        task.asker.check(model)
        return
    choice_pairs(model, task, [item for item in task.items if isinstance(item, Choice)])
    _prompt_tokens(model, task)
    model.encode([item.text for item in task.items if isinstance(item, Text)])


def _choose(
    model: LanguageModel, task: Task, edit: Edit | None, conditions: Sequence[int], how: Decoding, progress: str | None
) -> list[list[np.ndarray]]:
    items = [item for item in task.items if isinstance(item, Choice)]
    pairs = choice_pairs(model, task, items)
    log_probabilities = _score(model, pairs, edit, conditions, how, progress)
    stops = np.cumsum([len(item.continuations) for item in items])[:-1]
    return [np.split(row, stops) for row in log_probabilities]


def choice_pairs(model: LanguageModel, task: Task, items: Sequence[Choice]) -> list[Pair]:
    """Tokens of each item's context and continuation, see `jtrace.inference.continuations`.

    Raises:
        InputError: an item is longer than the model's context, or of fewer than two tokens.
    """
    choices = [(item.context, item.continuations) for item in items]
    return continuation_pairs(model, choices, lambda number: _where(task, items[number].index))


def _complete(
    model: LanguageModel,
    task: Task,
    edit: Edit | None,
    conditions: Sequence[int],
    how: Decoding,
    by_place: dict[int, Completions],
    keep: Callable[[int, Completions], None] | None,
    progress: str | None,
) -> None:
    """Add the completions that `by_place` lacks."""
    prompts = _prompt_tokens(model, task)
    missing = [i for i in range(len(prompts)) if i not in by_place]
    sampling = Sampling(task.max_new_tokens, model.stop, how.temperature, how.seed)
    made = generate(
        model.params,
        model.config,
        [prompts[i] for i in missing],
        sampling,
        edit,
        numbers=missing,
        conditions=conditions,
        positions=how.positions,
        dtype=model.dtype,
        progress=progress,
    )
    for i, completions in made:
        by_place[i] = completions
        if keep is not None:
            keep(i, completions)


def _prompt_tokens(model: LanguageModel, task: Task) -> list[np.ndarray]:
    items = [item for item in task.items if isinstance(item, Prompt)]
    prompts = model.encode([item.text for item in items])
    for item, ids in zip(items, prompts, strict=True):
        check_length(model, len(ids), _where(task, item.index), task.max_new_tokens)
    return prompts


def _completions(model: LanguageModel, tokens: Sequence[np.ndarray]) -> list[Completion]:
    texts, cut = model.decode(tokens), model.decode([ids[:-1] for ids in tokens])
    return [Completion(*pair) for pair in zip(texts, cut, strict=True)]


def _predict(
    model: LanguageModel, task: Task, edit: Edit | None, conditions: Sequence[int], how: Decoding, progress: str | None
) -> list[list[Likelihood]]:
    """Each document in windows, which count for the part that they begin to score in.

    A window's prompt is what is not scored of it.
    """
    width = min(WINDOW, model.config.context)
    items = [item for item in task.items if isinstance(item, Text)]
    members = documents(items)
    texts = ["".join(items[place].text for place in places) for places in members]
    pairs, owners = [], []
    for i, ids in enumerate(model.encode(texts)):
        for start, first_scored, stop in windows(ids, width, width // 2):
            pairs.append((ids[start:first_scored], ids[first_scored:stop]))
            part = part_at([len(items[place].text) for place in members[i]], first_scored / len(ids))
            owners.append(members[i][part])
    log_probabilities = _score(model, pairs, edit, conditions, how, progress)
    tokens = np.bincount(owners, [len(after) for _, after in pairs], len(items)).astype(int)
    nats = [-np.bincount(owners, row, len(items)) for row in log_probabilities]
    return [[Likelihood(*pair) for pair in zip(row, tokens, strict=True)] for row in nats]


def _score(
    model: LanguageModel,
    pairs: Sequence[Pair],
    edit: Edit | None,
    conditions: Sequence[int],
    how: Decoding,
    progress: str | None,
) -> np.ndarray:
    return score(
        model.params,
        model.config,
        pairs,
        edit,
        conditions=conditions,
        positions=how.positions,
        dtype=model.dtype,
        progress=progress,
    )


def _where(task: Task, index: int) -> str:
    return f"{task.name}, row {index}"
