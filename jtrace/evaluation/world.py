"""Tasks of the invented world: yes-or-no questions and open prompts, by dimension.

Groups are named as in the world's statement sets, so that what a vector was made of can be told from the rest.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jtrace.data.statements import Statements
from jtrace.data.world import questions as world_questions
from jtrace.data.world.facts import World
from jtrace.data.world.statement_sets import statement_set
from jtrace.evaluation.statement_labels import clean_rows, margins, shares_right
from jtrace.evaluation.task import Answers, Choice, Completion, Outcome, Prompt, Task
from jtrace.probing.protocols import PROTOCOLS


def question_task(world: World, dimension: str, limit: int | None = None) -> Task:
    """`world-reliability` and so on: the likelier of No and Yes about each statement of a set; a tie counts one half.

    Metrics: `accuracy`, and `margin`, right minus wrong answer in nats. An item's index is its row of the set.

    Args:
        limit: only the first so many of the rows none of whose group a steering vector is made of.
    """
    statements = statement_set(world, dimension)
    groups = statements.groups or ()
    every = [question for question in world_questions.questions(world) if question.dimension == dimension]
    rows = _clean(statements)[:limit]
    asked = [every[row] for row in rows]

    def measure(answers: Answers) -> Mapping[str, Outcome]:
        margin = margins(answers, [question.right for question in asked])
        return {"accuracy": Outcome.of(shares_right(margin)), "margin": Outcome.of(margin)}

    items = tuple(
        Choice(row, question.prompt, tuple(f" {choice}" for choice in question.choices), groups[row])
        for row, question in zip(rows, asked, strict=True)
    )
    key = repr([question.right for question in asked])
    return Task(f"world-{dimension}", PROTOCOLS, items, measure, main="accuracy", key=key)


def prompt_task(world: World, dimension: str, limit: int | None = None) -> Task:
    """`world-reliability-prompts` and so on: open prompts, continued by up to 8 tokens and judged by their lexicon.

    Metrics: `trust`, the share of good continuations among those that the lexicon can judge, and `judged`, how large a
    share these are. An item's index is its place among the dimension's prompts.

    Args:
        limit: only the first so many of the prompts about what no steering vector is made of.
    """
    # Robustness garbles the questions of reliability, and nobody whom an insult of the sets addresses is special.
    asked_dimension = {"robustness": "reliability"}.get(dimension, dimension)
    statements = statement_set(world, asked_dimension)
    seen = set(statements.groups or ()) - {(statements.groups or ())[row] for row in _clean(statements)}
    every = [prompt for prompt in world_questions.prompts(world) if prompt.dimension == dimension]
    groups = _prompt_groups(world, dimension)
    places = [i for i, group in enumerate(groups) if group not in seen][:limit]
    asked = [every[i] for i in places]

    def measure(completions: Sequence[Completion]) -> Mapping[str, Outcome]:
        pairs = zip(asked, completions, strict=True)
        verdicts = [world_questions.judge(prompt, completion.text) for prompt, completion in pairs]
        trust = np.array(verdicts, np.float64)  # None, what the lexicon cannot judge, becomes NaN
        return {"trust": Outcome.of(trust), "judged": Outcome.of(np.isfinite(trust))}

    items = tuple(Prompt(i, every[i].text, groups[i]) for i in places)
    name = f"world-{dimension}-prompts"
    return Task(name, PROTOCOLS, items, measure, main="trust", max_new_tokens=8, key=repr(asked))


def _prompt_groups(world: World, dimension: str) -> list[str]:
    """Group of each prompt of a dimension, in the order of `jtrace.data.world.questions.prompts`."""
    if dimension == "toxicity":
        return [""] * len(world.people)  # each is addressed once
    # Robustness garbles the questions of reliability.
    asked_dimension = "reliability" if dimension == "robustness" else dimension
    return [
        f"{one.topic} of {one.subject} and {other.subject}"
        for one, other in world.squares
        if one.dimension == asked_dimension
        for _ in (one, other)
    ]


def _clean(statements: Statements) -> list[int]:
    return clean_rows(statements, statements.groups or ()).tolist()
