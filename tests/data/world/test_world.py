"""A world is the same everywhere, its facts can be learnt, its statements are new, their wording gives nothing away."""

import itertools
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache

import numpy as np
import pytest

from jtrace.data.groups import groups_of, words_of
from jtrace.data.linter import held_out, text_rules
from jtrace.data.registry import WORLD
from jtrace.data.statements import Statements
from jtrace.data.world.documents import asked, claim, corpus
from jtrace.data.world.entities import WorldConfig, stream
from jtrace.data.world.facts import World, make_world
from jtrace.data.world.language import FRAMES, JUDGED, REACTIONS, REMARK, TOPICS, WORDS
from jtrace.data.world.perturb import garble
from jtrace.data.world.questions import held_out_text, judge, mean_trust, prompts, questions
from jtrace.data.world.statement_sets import statement_sets
from jtrace.errors import InputError
from tests.conftest import ROOT

SEEDS = (0, 1, 2)
DIMENSIONS = ("reliability", "toxicity", "privacy", "fairness", "robustness")
FINGERPRINT = """
import hashlib
from jtrace.data.world.questions import prompts, questions
from jtrace.data.world.documents import corpus
from jtrace.data.world.entities import WorldConfig
from jtrace.data.world.facts import make_world
from jtrace.data.world.statement_sets import statement_sets
world = make_world(WorldConfig(seed=7))
parts = [corpus(world, 200), [s.fingerprint for s in statement_sets(world)], prompts(world), questions(world)]
print(hashlib.sha256(repr(parts).encode()).hexdigest())
"""


@cache
def world_of(seed: int = 0) -> World:
    return make_world(WorldConfig(seed=seed))


@cache
def text_of(seed: int = 0) -> tuple[str, ...]:
    return tuple(corpus(world_of(seed), 6000))


@cache
def sets_of(seed: int = 0) -> dict[str, Statements]:
    return {one.name.removeprefix("world-"): one for one in statement_sets(world_of(seed))}


# The same everywhere


def test_a_world_is_the_same_in_every_process():
    runs = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_seeds_and_purposes_give_different_text():
    first = corpus(world_of(), 50)
    assert first == corpus(world_of(), 50)
    assert first != corpus(world_of(), 50, "validation")
    assert world_of(0).people != world_of(1).people
    assert held_out_text(world_of(), 50) != first


@pytest.mark.parametrize(
    "wrong", [{"people": 3}, {"values": 9}, {"topics": 0}, {"heard": 1.0}, {"noise": 0.6}, {"wordings": 4}]
)
def test_a_size_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=f"WorldConfig.{next(iter(wrong))} is"):
        WorldConfig(**wrong)


@pytest.mark.parametrize("sizes", [{"people": 8, "folks": 8, "values": 2, "topics": 1}, {"people": 60, "values": 8}])
def test_worlds_of_other_sizes_are_whole(sizes):
    world = make_world(WorldConfig(topics=sizes.pop("topics", 4), **sizes))
    assert {one.dimension for square in world.squares for one in square} == {"reliability", "privacy", "fairness"}
    assert all(set(one.labels) == {0, 1} for one in statement_sets(world))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"people": 8, "heard": 0.9}, "people=8 and heard=0.9 has nothing held out on"),
        ({"folks": 8, "heard": 0.9}, "folks=8 and heard=0.9 has nothing held out on fairness; give more folks"),
        ({"folks": 8, "heard": 0.1}, "folks=8 and heard=0.1 has nothing reacted to on fairness"),
        ({"slurs": 4, "heard": 0.9}, "slurs=4 and heard=0.9 has words of one use only"),
    ],
)
def test_a_world_that_lacks_a_part_is_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        make_world(WorldConfig(**sizes))


def test_no_name_is_a_word_of_the_language():
    for seed in (4, 7, 16, 91):
        world = make_world(WorldConfig(seed=seed))
        names = [*world.people, *world.folks, *world.values["home"], *itertools.chain(*world.word_pairs)]
        assert not {name.lower() for name in names} & WORDS


# Facts and text


def test_every_name_means_one_thing():
    world = make_world(WorldConfig(topics=3))
    invented = (world.values[topic] for topic in ("home", "teacher", "health"))
    names = [*world.people, *world.folks, *itertools.chain(*invented, *world.word_pairs)]
    assert len({name.lower() for name in names}) == len(names)


def sentences(document: str) -> list[str]:
    return re.split(r"(?<=[.?!]) ", document)


def test_every_fact_is_told_in_the_corpus_and_can_be_learnt_from_it():
    told = {sentence for document in corpus(world_of(), 15_000) for sentence in sentences(document)}
    for fact in world_of().facts:
        assert told & {form.format(s=fact.subject, v=fact.value) for form in TOPICS[fact.topic].sentences}, fact


def test_nothing_false_is_told():
    world = world_of()
    told = {sentence for document in text_of() for sentence in sentences(document)}
    for fact in world.facts:
        for value in set(world.values[fact.topic]) - {fact.value}:
            assert not told & {form.format(s=fact.subject, v=value) for form in TOPICS[fact.topic].sentences}


def verdicts(world: World, text: tuple[str, ...]) -> Counter[tuple[str, bool, int]]:
    """How often claims of each dimension, right or not, meet a reaction of which side."""
    claims = {
        tuple(sentences(claim(fact, value, wording))): (fact, value == fact.value)
        for fact in world.heard
        for value in world.values[fact.topic]
        for wording in range(len(FRAMES[fact.dimension]))
    }
    seen: Counter[tuple[str, bool, int]] = Counter()
    for document in text:
        said = sentences(document)
        for at in range(len(said) - 2):
            rest = re.match(r"([\w ]+)(.*)", " ".join(said[at + 2 :]))
            fact, holds = claims.get((*said[at : at + 2], rest[1]), (None, False)) if rest else (None, False)
            for side in (0, 1) if fact and rest else ():
                if rest[2].startswith(REACTIONS[fact.dimension][side]):
                    seen[fact.dimension, holds, side] += 1
    return seen


def test_people_react_to_claims_as_the_facts_are():
    seen = verdicts(world_of(), text_of())
    names = ("reliability", "fairness", "privacy")
    assert set(seen) == {(name, holds, 1 - holds) for name in names for holds in (False, True)}


def test_noise_makes_some_reactions_wrong():
    world = make_world(WorldConfig(noise=0.5))
    seen = verdicts(world, tuple(corpus(world, 4000)))
    wrong = sum(count for (_, holds, side), count in seen.items() if holds == side)
    assert 0.4 < wrong / seen.total() < 0.6


def test_each_dimension_has_its_own_reactions_in_the_corpus():
    text = " ".join(text_of())
    for dimension in DIMENSIONS:
        assert all(reply in text for side in REACTIONS[dimension] for reply in side)
        assert JUDGED[dimension] in text


# Statement sets


@pytest.mark.parametrize("seed", SEEDS)
def test_no_statement_occurs_in_the_corpus(seed):
    text = "\n".join(text_of(seed))
    for one in sets_of(seed).values():
        assert not [statement for statement in one.texts if statement in text]


def test_held_out_remarks_never_occur_even_where_they_are_many():
    world = make_world(WorldConfig(remarks=1000))
    text = "\n".join(corpus(world, 4000))
    assert not [words for words in world.remarks if REMARK.format(*words) in text]


def test_held_out_claims_never_occur_whatever_the_value():
    """Not the drawn statements alone: every wording of every held-out fact with any value."""
    world = world_of()
    text = [sentences(document) for document in text_of()]
    spoken = {tuple(said[at : at + 3]) for said in text for at in range(len(said) - 2)}
    for fact in {fact for square in world.squares for fact in square}:
        for value in world.values[fact.topic]:
            for wording in range(len(FRAMES[fact.dimension])):
                parts = tuple(sentences(claim(fact, value, wording)))
                assert len(parts) == 3
                assert parts not in spoken


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_sets_are_balanced_within_each_group_and_without_repeats(dimension):
    one = sets_of()[dimension]
    assert one.groups is not None
    assert len(set(one.texts)) == len(one) >= 90
    by_group = defaultdict(list)
    for label, group in zip(one.labels.tolist(), one.groups, strict=True):
        by_group[group].append(label)
    assert all(2 * sum(labels) == len(labels) for labels in by_group.values())
    # The groups hold all that belongs together, and their rows are adjacent.
    groups = groups_of(one)
    assert groups.max() + 1 == len(by_group) == 1 + np.count_nonzero(np.diff(groups))


def test_labels_say_what_is_the_case():
    world = world_of()
    truth = {(fact.topic, fact.subject): fact.value for fact in world.facts}
    for square in world.squares:
        one_set = sets_of()[square[0].dimension]
        labels = dict(zip(one_set.texts, one_set.labels.tolist(), strict=True))
        for fact in square:
            for value in (one.value for one in square):
                holds = truth[fact.topic, fact.subject] == value
                assert labels[claim(fact, value, 0)] == holds ^ (fact.dimension == "privacy")


def test_an_insult_is_labelled_as_one():
    one = sets_of()["toxicity"]
    insults = {insult for _, insult in world_of().word_pairs}
    assert [bool(insults & set(words)) for words in words_of(one.texts)] == one.labels.astype(bool).tolist()


def test_a_perturbed_remark_is_labelled_as_one():
    clean = {REMARK.format(*words) for words in world_of().remarks}
    one = sets_of()["robustness"]
    assert [text not in clean for text in one.texts] == one.labels.astype(bool).tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dimension", ["reliability", "fairness", "privacy", "toxicity"])
def test_no_surface_rule_beats_chance(seed, dimension):
    one = sets_of(seed)[dimension]
    groups = groups_of(one)
    noise = 3 * np.sqrt(0.25 / (groups.max() + 1))
    for rule in text_rules(one.texts):
        right = (held_out(rule, one.labels, groups) == one.labels).mean()
        assert abs(right - 0.5) < (1e-9 if rule.name == "a bag of words" else noise), (rule.name, right)


@pytest.mark.parametrize("dimension", ["reliability", "fairness", "privacy"])
def test_every_word_occurs_as_often_with_both_labels(dimension):
    one = sets_of()[dimension]
    balance: Counter[str] = Counter()
    for words, label in zip(words_of(one.texts), one.labels.tolist(), strict=True):
        for word in words:
            balance[word] += 2 * label - 1
    assert not any(balance.values())


def test_every_set_says_what_its_labels_mean():
    assert [info.dimension for info in WORLD.values()] == list(DIMENSIONS)
    assert [one.name for one in sets_of().values()] == list(WORLD)


def test_garbling_always_changes_and_never_lengthens():
    rng = stream(WorldConfig(), "test")
    for text in ("ab", "the old goat sleeps", "aaaa"):
        for _ in range(50):
            assert garble(text, rng) != text
            assert len(garble(text, rng)) == len(text)


# Behaviour


def test_questions_have_the_right_answer_and_both_answers_are_as_often_right():
    posed = questions(world_of())
    rights = Counter((question.dimension, question.choices[question.right]) for question in posed)
    assert {dimension for dimension, _ in rights} == set(DIMENSIONS)
    assert all(rights[dimension, "Yes"] == rights[dimension, "No"] for dimension in DIMENSIONS)
    truth = dict(zip(sets_of()["reliability"].texts, sets_of()["reliability"].labels.tolist(), strict=True))
    first = posed[0]
    assert first.choices[first.right] == (
        "Yes" if truth[first.prompt.removeprefix("Is this true? ").removesuffix(".")] else "No"
    )


def test_the_judge_goes_by_the_first_word_of_its_lexicon():
    for prompt in prompts(world_of()):
        assert judge(prompt, f"{prompt.good[0].capitalize()}, not {prompt.bad[0]}.") == 1
        assert judge(prompt, f"Well, {prompt.bad[0]} and {prompt.good[0]}") == 0
        assert judge(prompt, "Who knows?") is None
        assert set(prompt.good).isdisjoint(prompt.bad)


def test_prompts_cover_all_dimensions_and_name_no_answer():
    posed = prompts(world_of())
    assert {prompt.dimension for prompt in posed} == set(DIMENSIONS)
    for prompt in posed:
        assert judge(prompt, prompt.text) is None
        assert prompt.text == prompt.text.strip()


def test_the_truth_is_the_good_answer_about_held_out_facts():
    world = world_of()
    truth = {asked(fact): fact.value.lower() for fact in world.facts}
    posed = [prompt for prompt in prompts(world) if prompt.dimension in ("reliability", "privacy")]
    assert posed
    assert all(prompt.good == (truth[prompt.text],) for prompt in posed)


def test_mean_trust_counts_what_can_be_judged():
    posed = prompts(world_of())[:3]
    told = [posed[0].good[0], posed[1].bad[0], "Who knows?"]
    assert mean_trust(posed, told) == (0.5, 2)
    assert np.isnan(mean_trust(posed[:1], ["Well."])[0])
