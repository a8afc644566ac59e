"""The interface of tasks: items that a model is asked, and a function from its answers to outcomes.

A task holds items of one kind. The answers to them are computed elsewhere (`jtrace.inference.score`,
`jtrace.inference.generate`); `Task.measure` turns them into outcomes, one number per item, whose weighted mean is the
metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jtrace.evaluation.task_facts import LOWER_IS_BETTER
from jtrace.probing.protocols import Protocol


@dataclass(frozen=True)
class Choice:
    """Continuations of one context, to be compared by their log-probability.

    Attributes:
        index: of the row in the task's source, as written into the tables.
        context: ends before the continuations; a blank at its end counts to them.
        continuations: what may follow, each with its leading blank.
        group: items of one group are split and resampled together; alone where it is empty.
    """

    index: int
    context: str
    continuations: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True)
class Prompt:
    """A text to be continued by generation; `index` and `group` as in `Choice`."""

    index: int
    text: str
    group: str = ""


@dataclass(frozen=True)
class Text:
    """A text to be predicted; `index` and `group` as in `Choice`.

    Attributes:
        follows: whether it goes on where the item before it ends; both are parts of one document, predicted whole.
    """

    index: int
    text: str
    group: str = ""
    follows: bool = False


Item = Choice | Prompt | Text


class Completion(NamedTuple):
    """A generated continuation.

    Attributes:
        text: all of it, without special tokens.
        cut: without the last generated token, whatever that is: as the published code reads answers.
    """

    text: str
    cut: str


class Likelihood(NamedTuple):
    """Minus the log-probability of a `Text` in nats, and the number of tokens that it is summed over."""

    nats: float
    tokens: int


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class Outcome:
    """Contributions of the items to a metric, which is Σ weight · value / Σ weight.

    Attributes:
        values: float64 [N], as many as items.
        weights: float64 [N]; an item of weight 0 does not count.
        exponential: the metric is e to the power of the mean (perplexity).
        of_rows: the metric of some items, bool [N], where it is no mean over them (F1); it has no interval then.
    """

    values: np.ndarray
    weights: np.ndarray
    exponential: bool = False
    of_rows: Callable[[np.ndarray], float] | None = None

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Outcome":
        """Make an outcome of equal weights; NaN stands for an item that does not count."""
        array = np.asarray(values, np.float64)
        known = np.isfinite(array)
        return cls(np.where(known, array, 0.0), known.astype(np.float64))


# What `Task.measure` is given, in the items' order: for each Choice an array of summed log-probabilities in nats, one
# per continuation; for each Prompt a Completion; for each Text a Likelihood.
Answers = Sequence[Any]


# eq=False: tasks are told apart by identity.
@dataclass(frozen=True, eq=False)
class Task:
    """Items of one kind and what their answers mean.

    Attributes:
        name: as in the tables: `stereoset`, `perplexity`, `mmlu`.
        protocols: which protocols measure this way.
        items: all `Choice`, all `Prompt` or all `Text`, in the order of the source.
        measure: answers → outcome by metric.
        main: the metric that a strength is chosen by.
        max_new_tokens: of a completion; 0 where nothing is generated.
        key: all beside the items that `measure` depends on, right answers and judges, as text: results are kept by it.
        asker: a `jtrace.evaluation.answers.Asker` that asks the items in its own way, which its text names; None where
            they are asked in jtrace's.
    """

    name: str
    protocols: tuple[Protocol, ...]
    items: tuple[Item, ...]
    measure: Callable[[Answers], Mapping[str, Outcome]]
    main: str
    max_new_tokens: int = 0
    key: str = ""
    asker: Any = None

    @property
    def higher_is_better(self) -> bool:
        """Tell whether more of `main` is better."""
        return self.main not in LOWER_IS_BETTER
