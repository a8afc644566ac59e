"""Capability as multiple choice by log-likelihood: MMLU, ARC, RACE and MathQA.

MMLU (arXiv 2009.03300) shows lettered answers and scores the letters; ARC (1803.05457), RACE (1704.04683) and MathQA
(1905.13319) score the answers' texts, as Brown et al. (2005.14165) do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

from jtrace.errors import InputError
from jtrace.evaluation.task import Answers, Choice, Outcome, Task
from jtrace.evaluation.task_facts import CAPABILITY
from jtrace.probing.protocols import PROTOCOLS

# Worked examples where nothing else is asked for. Articles are long, so RACE has none.
SHOTS: Mapping[str, int] = dict.fromkeys(CAPABILITY, 0) | {"mmlu": 5}
_LETTERED = ("mmlu",)  # tasks whose prompts list the answers, so that a letter stands for each


@dataclass(frozen=True)
class CapabilityQuestion:
    """A question and its answers, without blanks around them.

    Attributes:
        index: of the row in the source, from zero.
        stem: the question.
        choices: the possible answers, two or more, none empty.
        right: index of the right one.
        subject: of MMLU, `abstract_algebra`; its examples are of the same subject. Empty where there is none.
        context: the article that the question is about; empty where there is none.
        group: as in `task.Choice`.
    """

    index: int
    stem: str
    choices: tuple[str, ...]
    right: int
    subject: str = ""
    context: str = ""
    group: str = ""


def capability_task(
    name: str, test: Sequence[CapabilityQuestion], dev: Sequence[CapabilityQuestion], shots: int
) -> Task:
    """Questions after worked examples; the likeliest answer is taken, and t answers in a tie count 1/t.

    Metrics: `accuracy`, of the highest summed log-probability, and `accuracy_normalised`, of the highest one per
    character of the answer (the `acc_norm` of the Language Model Evaluation Harness). Letters make them the same.

    Args:
        name: one of `SHOTS`.
        test: the questions to answer.
        dev: where examples come from: the first ones, of a question's own subject where there are subjects.
        shots: examples before each question; `SHOTS` has the usual number.

    Raises:
        InputError: no such task, no questions, or fewer examples than asked for.
    """
    if name not in SHOTS:
        raise InputError(f"no capability task {name!r}; there are {', '.join(SHOTS)}")
    if not test:
        raise InputError(f"{name}: the test split has no questions; give at least one")
    if shots < 0:
        raise InputError(f"{name}: {shots} examples are no number of examples; ask for 0 or more")
    lettered = name in _LETTERED
    openings = {
        subject: _opening(subject, lettered, _examples(name, subject, dev, shots))
        for subject in dict.fromkeys(question.subject for question in test)
    }
    items = tuple(
        Choice(
            question.index,
            openings[question.subject] + _prompt(question, lettered),
            _continuations(question, lettered),
            question.group,
        )
        for question in test
    )
    right = [question.right for question in test]
    lengths = [np.array([len(text.removeprefix(" ")) for text in item.continuations]) for item in items]
    return Task(name, PROTOCOLS, items, _measure(right, lengths), main="accuracy", key=repr(right))


def _examples(name: str, subject: str, dev: Sequence[CapabilityQuestion], shots: int) -> list[CapabilityQuestion]:
    if shots and not dev:
        raise InputError(
            f"{name}: the dev split is missing, but {shots} examples are asked for; add {name}_dev, or ask for none"
        )
    examples = [question for question in dev if question.subject == subject][:shots]
    if len(examples) < shots:
        about = f" about {_spoken(subject)}" if subject else ""
        has = f"the dev split has {len(examples)} questions{about}, but {shots} examples are asked for"
        raise InputError(f"{name}: {has}; add questions to it, or ask for fewer")
    return examples


def _opening(subject: str, lettered: bool, examples: Sequence[CapabilityQuestion]) -> str:
    """What stands before a subject's questions."""
    about = f" about {_spoken(subject)}" if subject else ""
    header = [f"The following are multiple choice questions (with answers){about}."] if lettered else []
    worked = [_prompt(example, lettered) + _continuations(example, lettered)[example.right] for example in examples]
    return "".join(f"{part}\n\n" for part in header + worked)


def _prompt(question: CapabilityQuestion, lettered: bool) -> str:
    if lettered:
        listed = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, question.choices, strict=False)]
        return "\n".join([question.stem, *listed, "Answer:"])
    article = f"Article: {question.context}\n\n" if question.context else ""
    return f"{article}Question: {question.stem}\nAnswer:"


def _continuations(question: CapabilityQuestion, lettered: bool) -> tuple[str, ...]:
    answers = ascii_uppercase[: len(question.choices)] if lettered else question.choices
    return tuple(f" {answer}" for answer in answers)


def _spoken(subject: str) -> str:
    return subject.replace("_", " ")


def _measure(right: Sequence[int], lengths: Sequence[np.ndarray]) -> Callable[[Answers], Mapping[str, Outcome]]:
    """Of questions with `right` answers, whose texts have `lengths` characters, int [choices] each."""

    def measure(answers: Answers) -> Mapping[str, Outcome]:
        summed = [np.asarray(scores, np.float64) for scores in answers]
        normalised = [scores / length for scores, length in zip(summed, lengths, strict=True)]
        return {
            "accuracy": Outcome.of([*map(_share_right, summed, right)]),
            "accuracy_normalised": Outcome.of([*map(_share_right, normalised, right)]),
        }

    return measure


def _share_right(scores: np.ndarray, right: int) -> float:
    """1 where the right answer scores highest, 1/t where t answers do and it is one of them; 0 where a score is NaN."""
    highest = scores == scores.max()
    return float(highest[right] / max(1, highest.sum()))
