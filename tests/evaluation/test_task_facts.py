"""Facts of tasks by name, and that the tasks themselves agree with them."""

import numpy as np
import pytest

from jtrace.data.statements import Statements
from jtrace.data.world.entities import WorldConfig
from jtrace.data.world.facts import make_world
from jtrace.evaluation.capability import CapabilityQuestion, capability_task
from jtrace.evaluation.perplexity import perplexity_task
from jtrace.evaluation.statement_labels import likelihood_task, published_task
from jtrace.evaluation.task import Choice, Completion, Likelihood, Task
from jtrace.evaluation.task_facts import CAPABILITY, better_by, dimension_of, main_metric
from jtrace.evaluation.toxigen import continuation_task
from jtrace.evaluation.truthfulqa import MultipleChoice, generation_task, multiple_choice_task
from jtrace.evaluation.world import prompt_task, question_task

WORLD = make_world(WorldConfig())
ROWS, GROUPS = np.array([0, 1]), ["a", "b"]


def labelled(name: str) -> Statements:
    return Statements(("one", "two"), np.array([0, 1]), name=name, source="made", rows=(1, 2))


def judge(*texts: list[str]) -> np.ndarray:
    return np.ones(len(texts[0]), bool)


def answers(task: Task) -> list[object]:
    """Some answer to every item, of the item's kind."""
    if isinstance(task.items[0], Choice):
        return [np.linspace(-1, 0, len(item.continuations)) for item in task.items]
    return [Likelihood(3.0, 2) if task.name == "perplexity" else Completion("1 x", "1") for _ in task.items]


@pytest.mark.parametrize(
    "task",
    [
        published_task(labelled("stereoset"), ROWS, GROUPS, seed=0),
        likelihood_task(labelled("sst2_small"), ROWS, GROUPS),
        continuation_task(labelled("toxigen"), ROWS, GROUPS, judge, "sound"),
        generation_task(["Why?"], "canonical", judge, judge),
        generation_task(["Why?"], "canonical", None, judge),
        multiple_choice_task([MultipleChoice("Why?", ("yes",), ("no",), "yes")]),
        perplexity_task(["some text"]),
        question_task(WORLD, "fairness"),
        prompt_task(WORLD, "fairness"),
        *(capability_task(name, [CapabilityQuestion(0, "Why?", ("yes", "no"), 0)], [], 0) for name in CAPABILITY),
    ],
    ids=lambda task: f"{task.name} by {task.main}",
)
def test_a_task_is_chosen_by_the_metric_that_speaks_for_it_in_the_tables(task):
    assert main_metric(task.name, task.measure(answers(task))) == task.main


@pytest.mark.parametrize(
    ("task", "measured", "metric"),
    [
        ("stereoset", ["accuracy_published_prompt", "unparsable", "accuracy"], "accuracy"),
        ("mmlu", ["accuracy_normalised", "accuracy"], "accuracy"),
        ("truthfulqa", ["mc1", "mc2", "info", "true_and_info"], "true_and_info"),
        ("truthfulqa", ["mc1", "mc2"], "mc2"),
        ("toxigen", ["toxicity"], "toxicity"),
        ("perplexity", ["perplexity"], "perplexity"),
        ("world-privacy", ["accuracy"], "accuracy"),
        ("world-privacy-prompts", ["trust", "unparsable"], "trust"),
        ("world-privacy-prompts", ["unparsable"], None),
    ],
)
def test_the_main_metric_speaks_for_a_task(task, measured, metric):
    assert main_metric(task, measured) == metric


def test_dimensions():
    assert dimension_of("confaide") == "privacy"
    assert dimension_of("world-fairness") == dimension_of("world-fairness-prompts") == "fairness"
    assert dimension_of("truthfulqa-mc") == dimension_of("truthfulqa") == "reliability"
    assert dimension_of("perplexity") == dimension_of("mine") == dimension_of("mmlu") == ""


def test_variants_and_sums_of_vectors_are_of_their_set():
    assert dimension_of("sst2_small") == dimension_of("sst2@3+4") == dimension_of("-0.5*sst2+toxigen") == "robustness"


def test_better_is_positive_whichever_way_the_metric_goes():
    assert better_by("accuracy", 0.7, 0.5) == pytest.approx(0.2)
    assert better_by("toxicity", 0.7, 0.5) == pytest.approx(-0.2)
