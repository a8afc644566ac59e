"""What a model of the world is asked, by dimension, and which items belong together."""

from functools import cache

import numpy as np
import pytest

from jtrace.data.registry import WORLD
from jtrace.data.world.documents import asked
from jtrace.data.world.entities import WorldConfig
from jtrace.data.world.facts import make_world
from jtrace.data.world.questions import prompts
from jtrace.data.world.statement_sets import statement_set
from jtrace.evaluation.statement_labels import clean_rows, evaluation_rows
from jtrace.evaluation.task import Completion
from jtrace.evaluation.world import prompt_task, question_task

DIMENSIONS = tuple(info.dimension for info in WORLD.values())


@cache
def world():
    return make_world(WorldConfig())


@cache
def task_of(make, dimension):
    return make(world(), dimension)


def seen_by_vectors(dimension):
    """Groups that a vector of the dimension's set is made of."""
    rows = statement_set(world(), dimension)
    return set(rows.groups[: evaluation_rows(rows)[0]])


def mean(outcome):
    return np.average(outcome.values, weights=outcome.weights)


# Questions


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_each_dimension_has_its_questions(dimension):
    task = task_of(question_task, dimension)

    assert task.name == f"world-{dimension}"
    assert (task.protocols, task.main, task.max_new_tokens) == (("paper", "sound"), "accuracy", 0)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_question_is_about_the_row_of_its_index_and_in_its_group(dimension):
    rows = statement_set(world(), dimension)

    for item in task_of(question_task, dimension).items:
        assert rows.texts[item.index] in item.context
        assert item.group == rows.groups[item.index]
        assert item.continuations == (" No", " Yes")


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_only_rows_whose_group_no_vector_is_made_of_are_asked_about(dimension):
    rows = statement_set(world(), dimension)
    items = task_of(question_task, dimension).items

    assert [item.index for item in items] == clean_rows(rows, rows.groups).tolist()
    assert len(items) >= 0.4 * len(rows)
    assert not {item.group for item in items} & seen_by_vectors(dimension)


@pytest.mark.parametrize("make", [question_task, prompt_task])
def test_a_limit_takes_the_first(make):
    assert make(world(), "privacy", 5).items == task_of(make, "privacy").items[:5]


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_yes_is_right_where_the_label_is_1(dimension):
    task = task_of(question_task, dimension)
    labels = statement_set(world(), dimension).labels[[item.index for item in task.items]]
    outcomes = task.measure([np.array([-1.0 - label, -2.0 + label]) for label in labels.astype(float)])
    reluctant = task.measure([np.array([-1.0, -3.0])] * len(labels))
    undecided = task.measure([np.array([-1.0, -1.0])] * len(labels))

    assert mean(outcomes["accuracy"]) == mean(outcomes["margin"]) == 1
    assert mean(reluctant["accuracy"]) == pytest.approx(np.mean(labels == 0))
    assert mean(reluctant["margin"]) == pytest.approx(np.mean(np.where(labels == 0, 2.0, -2.0)))
    assert mean(undecided["accuracy"]) == 0.5


# Prompts


def asked_of(dimension):
    """The world's prompts that a task holds."""
    own = [prompt for prompt in prompts(world()) if prompt.dimension == dimension]
    return [own[item.index] for item in task_of(prompt_task, dimension).items]


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_each_dimension_has_its_prompts(dimension):
    task = task_of(prompt_task, dimension)

    assert task.name == f"world-{dimension}-prompts"
    assert (task.protocols, task.main, task.max_new_tokens) == (("paper", "sound"), "trust", 8)
    assert [item.text for item in task.items] == [prompt.text for prompt in asked_of(dimension)]


@pytest.mark.parametrize("dimension", ["reliability", "privacy", "fairness"])
def test_prompts_are_grouped_with_the_statements_on_the_same_facts(dimension):
    known = {
        asked(fact): f"{one.topic} of {one.subject} and {other.subject}"
        for one, other in world().squares
        for fact in (one, other)
    }
    items = task_of(prompt_task, dimension).items

    assert [item.group for item in items] == [known[item.text] for item in items]
    # About all that the vector is not made of, and about nothing that it is.
    rest = set(statement_set(world(), dimension).groups) - seen_by_vectors(dimension)
    assert {item.group for item in items} == rest


def test_a_garbled_question_is_grouped_as_the_question_is():
    plain, garbled = (task_of(prompt_task, dimension).items for dimension in ("reliability", "robustness"))

    assert [(item.index, item.group) for item in garbled] == [(item.index, item.group) for item in plain]
    facts = [fact for square in world().squares for fact in square if fact.dimension == "reliability"]
    for item in garbled:
        assert facts[item.index].subject in item.text
        assert facts[item.index].subject in item.group


def test_each_person_is_addressed_once_and_alone():
    items = task_of(prompt_task, "toxicity").items

    assert len({item.text for item in items}) == len(items) == len(world().people)
    assert {item.group for item in items} == {""}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_trust_counts_what_the_lexicon_can_judge(dimension):
    task, own = task_of(prompt_task, dimension), asked_of(dimension)
    said = [f" {prompt.good[0]} {prompt.bad[0]}" for prompt in own]
    said[0], said[1] = f" {own[0].bad[0]}", " hm"
    outcomes = task.measure([Completion(text, "") for text in said])

    assert mean(outcomes["trust"]) == pytest.approx((len(own) - 2) / (len(own) - 1))
    assert mean(outcomes["judged"]) == pytest.approx((len(own) - 1) / len(own))
