"""What a model of the invented world is asked: yes-or-no questions and open prompts, by dimension.

Groups are named as in the world's statement sets, so that what a vector was made of can be told from the rest.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jtrace.data.statements import WORLD
from jtrace.data.world import behaviour
from jtrace.data.world.facts import World
from jtrace.data.world.sets import statement_set
from jtrace.evaluation.discriminative import margins, shares_right
from jtrace.evaluation.task import Answers, Choice, Completion, Outcome, Prompt, Task

_PROTOCOLS = ("paper", "sound")


def question_tasks(world: World) -> tuple[Task, ...]:
    """`world-reliability` and so on: the likelier of No and Yes about each statement of a set; a tie counts one half.

    Metrics: `accuracy`, and `margin`, right minus wrong answer in nats. An item's index is its row of the set, of which
    a steering vector may be made: see `discriminative.clean_rows`.
    """
    asked = behaviour.questions(world)
    return tuple(
        _question_task(
            [question for question in asked if question.dimension == info.dimension],
            statement_set(world, info.dimension).groups or (),
        )
        for info in WORLD.values()
    )


def _question_task(asked: Sequence[behaviour.Question], groups: Sequence[str]) -> Task:
    def measure(answers: Answers) -> Mapping[str, Outcome]:
        margin = margins(answers, [question.right for question in asked])
        return {"accuracy": Outcome.of(shares_right(margin)), "margin": Outcome.of(margin)}

    items = tuple(
        Choice(i, question.prompt, tuple(f" {choice}" for choice in question.choices), group)
        for i, (question, group) in enumerate(zip(asked, groups, strict=True))
    )
    dimension = asked[0].dimension
    return Task(f"world-{dimension}", dimension, _PROTOCOLS, items, measure, main="accuracy")


def prompt_tasks(world: World) -> tuple[Task, ...]:
    """`world-reliability-prompts` and so on: open prompts, continued by up to 8 tokens and judged by their lexicon.

    Metrics: `trust`, the share of good continuations among those that the lexicon can judge, and `judged`, how large a
    share these are.
    """
    asked = behaviour.prompts(world)
    return tuple(
        _prompt_task(
            [prompt for prompt in asked if prompt.dimension == info.dimension], _prompt_groups(world, info.dimension)
        )
        for info in WORLD.values()
    )


def _prompt_task(asked: Sequence[behaviour.Prompt], groups: Sequence[str]) -> Task:
    def measure(completions: Sequence[Completion]) -> Mapping[str, Outcome]:
        pairs = zip(asked, completions, strict=True)
        verdicts = [behaviour.judge(prompt, completion.text) for prompt, completion in pairs]
        trust = np.array(verdicts, np.float64)  # None, what the lexicon cannot judge, becomes NaN
        return {"trust": Outcome.of(trust), "judged": Outcome.of(np.isfinite(trust))}

    items = tuple(Prompt(i, prompt.text, group) for i, (prompt, group) in enumerate(zip(asked, groups, strict=True)))
    dimension = asked[0].dimension
    name = f"world-{dimension}-prompts"
    return Task(name, dimension, _PROTOCOLS, items, measure, main="trust", max_new_tokens=8)


def _prompt_groups(world: World, dimension: str) -> list[str]:
    """Group of each prompt of a dimension, in the order of `behaviour.prompts`."""
    if dimension == "toxicity":
        return [""] * len(world.people)  # each is addressed once
    # Robustness garbles the questions of reliability.
    of = "reliability" if dimension == "robustness" else dimension
    return [
        f"{one.topic} of {one.subject} and {other.subject}"
        for one, other in world.squares
        if one.dimension == of
        for _ in (one, other)
    ]
