"""What a model of the world is asked, by dimension, and which items belong together."""

from functools import cache

import numpy as np
import pytest

from jtrace.data.statements import WORLD
from jtrace.data.world.behaviour import prompts, questions
from jtrace.data.world.corpus import asked
from jtrace.data.world.entities import WorldConfig
from jtrace.data.world.facts import make_world
from jtrace.data.world.sets import statement_set
from jtrace.evaluation.task import Completion
from jtrace.evaluation.world import prompt_tasks, question_tasks

DIMENSIONS = tuple(info.dimension for info in WORLD.values())


@cache
def world():
    return make_world(WorldConfig())


@cache
def tasks(make):
    return {task.dimension: task for task in make(world())}


def mean(outcome):
    return np.average(outcome.values, weights=outcome.weights)


# Questions


def test_each_dimension_has_its_questions():
    found = tasks(question_tasks)

    assert [task.name for task in found.values()] == list(WORLD)
    assert sum(len(task.items) for task in found.values()) == len(questions(world()))
    for task in found.values():
        assert (task.protocols, task.main, task.max_new_tokens) == (("paper", "sound"), "accuracy", 0)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_question_is_about_the_row_of_its_index_and_in_its_group(dimension):
    rows = statement_set(world(), dimension)
    items = tasks(question_tasks)[dimension].items

    assert len(items) == len(rows)
    for item in items:
        assert rows.texts[item.index] in item.context
        assert item.group == rows.groups[item.index]
        assert item.continuations == (" No", " Yes")


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_yes_is_right_where_the_label_is_1(dimension):
    labels = statement_set(world(), dimension).labels
    task = tasks(question_tasks)[dimension]
    outcomes = task.measure([np.array([-1.0 - label, -2.0 + label]) for label in labels.astype(float)])
    reluctant = task.measure([np.array([-1.0, -3.0])] * len(labels))
    undecided = task.measure([np.array([-1.0, -1.0])] * len(labels))

    assert mean(outcomes["accuracy"]) == mean(outcomes["margin"]) == 1
    assert mean(reluctant["accuracy"]) == pytest.approx(np.mean(labels == 0))
    assert mean(reluctant["margin"]) == pytest.approx(np.mean(np.where(labels == 0, 2.0, -2.0)))
    assert mean(undecided["accuracy"]) == 0.5


# Prompts


def test_each_dimension_has_its_prompts():
    found = tasks(prompt_tasks)

    assert [task.name for task in found.values()] == [f"{name}-prompts" for name in WORLD]
    assert sum(len(task.items) for task in found.values()) == len(prompts(world()))
    for task in found.values():
        assert (task.protocols, task.main, task.max_new_tokens) == (("paper", "sound"), "trust", 8)


@pytest.mark.parametrize("dimension", ["reliability", "privacy", "fairness"])
def test_prompts_are_grouped_with_the_statements_on_the_same_facts(dimension):
    known = {
        asked(fact): f"{one.topic} of {one.subject} and {other.subject}"
        for one, other in world().squares
        for fact in (one, other)
    }
    items = tasks(prompt_tasks)[dimension].items

    assert [item.group for item in items] == [known[item.text] for item in items]
    assert {item.group for item in items} == set(statement_set(world(), dimension).groups)


def test_a_garbled_question_is_grouped_as_the_question_is():
    plain, garbled = (tasks(prompt_tasks)[dimension].items for dimension in ("reliability", "robustness"))

    assert [item.group for item in garbled] == [item.group for item in plain]
    facts = [fact for square in world().squares for fact in square if fact.dimension == "reliability"]
    for fact, item in zip(facts, garbled, strict=True):
        assert fact.subject in item.text
        assert fact.subject in item.group


def test_each_person_is_addressed_once_and_alone():
    items = tasks(prompt_tasks)["toxicity"].items

    assert len({item.text for item in items}) == len(items) == len(world().people)
    assert {item.group for item in items} == {""}


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_trust_counts_what_the_lexicon_can_judge(dimension):
    task = tasks(prompt_tasks)[dimension]
    own = [prompt for prompt in prompts(world()) if prompt.dimension == dimension]
    said = [f" {prompt.good[0]} {prompt.bad[0]}" for prompt in own]
    said[0], said[1] = f" {own[0].bad[0]}", " hm"
    outcomes = task.measure([Completion(text, "") for text in said])

    assert mean(outcomes["trust"]) == pytest.approx((len(own) - 2) / (len(own) - 1))
    assert mean(outcomes["judged"]) == pytest.approx((len(own) - 1) / len(own))
