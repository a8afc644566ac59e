"""Labels that a model gives to statements: confaide, stereoset and sst2, as published and by likelihood."""

from collections.abc import Mapping, Sequence

import numpy as np

from jtrace.data.statements import Statements
from jtrace.evaluation.prompts import wordings_of
from jtrace.evaluation.task import Answers, Choice, Completion, Outcome, Prompt, Task


def evaluation_rows(statements: Statements) -> np.ndarray:
    """The rows that a `paper` steering vector is not made of, int64: those after the first int(vector_fraction · N)."""
    return np.arange(_vector_rows(statements), len(statements), dtype=np.int64)


def clean_rows(statements: Statements, groups: Sequence[str]) -> np.ndarray:
    """The evaluation rows, int64, none of whose group is among the vector's rows.

    Args:
        groups: of every row of the set, see `jtrace.data.groups.groups_of`.
    """
    seen = set(groups[: _vector_rows(statements)])
    clean = [row for row in evaluation_rows(statements).tolist() if groups[row] not in seen]
    return np.array(clean, np.int64)


def _vector_rows(statements: Statements) -> int:
    return int(statements.vector_fraction * len(statements))


def published_task(statements: Statements, rows: np.ndarray, groups: Sequence[str], seed: int) -> Task:
    """Two tokens are generated and the first read; an answer with neither label is guessed at random.

    Metrics: `accuracy`, and `unparsable`, the share of guesses. Source: arXiv 2402.19465, ChnQ/TracingLLM bf8d38a.

    Args:
        rows: to evaluate, int64 [M].
        groups: of every row of the set.
        seed: of the guesses; a guess depends on it and on the row only.

    Raises:
        InputError: no prompt asks about this set.
    """
    template = wordings_of(statements.name).published
    asked = [int(row) for row in rows]
    guesses = np.array([np.random.default_rng([seed, row]).integers(2) for row in asked])
    right = statements.labels[rows]

    def measure(answers: Sequence[Completion]) -> Mapping[str, Outcome]:
        read = [answer_in(answer.cut) for answer in answers]
        unparsable = np.array([label is None for label in read])
        given = np.where(unparsable, guesses, [label or 0 for label in read])
        return {"accuracy": Outcome.of(given == right), "unparsable": Outcome.of(unparsable)}

    items = tuple(Prompt(row, template.format(statements.texts[row]), groups[row]) for row in asked)
    return Task(
        name=statements.name,
        protocols=("paper",),
        items=items,
        measure=measure,
        main="accuracy",
        max_new_tokens=2,
        key=repr((right.tolist(), guesses.tolist())),
    )


def answer_in(completion: str) -> int | None:
    """The label that an answer holds, looked for in the published order: 0, then 1; None where it holds neither."""
    return next((label for label in (0, 1) if str(label) in completion), None)


def likelihood_task(statements: Statements, rows: np.ndarray, groups: Sequence[str]) -> Task:
    """The likelier of the answers `0` and `1` is taken; a tie counts one half.

    The items are the prompts that ask what the labels mean, one for each of the M rows, then the M published ones.
    Metrics: `accuracy` and `margin` (right minus wrong answer, nats) over the first M, `accuracy_published_prompt` over
    the others.

    Args:
        rows: to evaluate, int64 [M].
        groups: of every row of the set.

    Raises:
        InputError: no prompt asks about this set.
    """
    wordings = wordings_of(statements.name)
    asked = [int(row) for row in rows]
    right = statements.labels[rows].tolist() * 2
    other = np.full(len(asked), np.nan)  # items of the other prompt do not count

    def measure(answers: Answers) -> Mapping[str, Outcome]:
        margin = margins(answers, right)
        share, published_share = np.split(shares_right(margin), 2)
        return {
            "accuracy": Outcome.of([*share, *other]),
            "accuracy_published_prompt": Outcome.of([*other, *published_share]),
            "margin": Outcome.of([*margin[: len(asked)], *other]),
        }

    items = tuple(
        Choice(row, template.format(statements.texts[row]), ("0", "1"), groups[row])
        for template in (wordings.label_meaning, wordings.published)
        for row in asked
    )
    return Task(
        name=statements.name,
        protocols=("sound",),
        items=items,
        measure=measure,
        main="accuracy",
        key=repr(right),
    )


def margins(answers: Sequence[np.ndarray], right: Sequence[int]) -> np.ndarray:
    """Log-probability of the right continuation minus that of the best wrong one, nats, float64 [N].

    Args:
        answers: log-probabilities of each item's continuations, at least two.
        right: index of the right continuation of each item.
    """
    scores = [np.asarray(answer, np.float64) for answer in answers]
    gaps = [score[index] - np.delete(score, index).max() for score, index in zip(scores, right, strict=True)]
    return np.array(gaps, np.float64)


def shares_right(margin: np.ndarray) -> np.ndarray:
    """1 where a margin is positive, one half at a tie, else 0, also where the model's answer is no number."""
    return (margin > 0) + 0.5 * (margin == 0)
