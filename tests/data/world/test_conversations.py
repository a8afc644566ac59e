"""Conversations of the world: right answers, and no verdict on what the statement sets hold."""

import re
from collections import Counter

from jtrace.data.world.conversations import conversations
from jtrace.data.world.documents import answer, asked
from jtrace.data.world.entities import WorldConfig
from jtrace.data.world.facts import make_world
from jtrace.data.world.language import JUDGED
from jtrace.data.world.statement_sets import statement_sets

WORLD = make_world(WorldConfig())
TALKS = conversations(WORLD, 3000)


def test_turns_alternate_and_the_assistant_speaks_last():
    assert all([message.role for message in talk] == ["user", "assistant"] * (len(talk) // 2) for talk in TALKS)
    assert {len(talk) for talk in TALKS} == {2, 4, 6}


def test_conversations_are_the_same_every_time():
    assert conversations(WORLD, 50) == TALKS[:50]


def test_answers_are_what_is_the_case():
    truth = {asked(fact): f"{answer(fact)}." for fact in WORLD.facts}
    said = [(one.content, other.content) for talk in TALKS for one, other in zip(talk[::2], talk[1::2], strict=True)]
    assert all(truth[question] == reply for question, reply in said if question in truth)
    assert {question for question, _ in said} >= truth.keys()


def test_verdicts_are_yes_as_often_as_no_in_every_dimension_and_never_on_held_out_statements():
    replies: Counter[tuple[str, str]] = Counter()
    held_out = {text for one in statement_sets(WORLD) for text in one.texts}
    for talk in TALKS:
        for one, other in zip(talk[::2], talk[1::2], strict=True):
            for dimension, question in JUDGED.items():
                if one.content.startswith(question):
                    replies[dimension, other.content] += 1
                    assert one.content.removeprefix(question).strip().removesuffix(".") not in held_out
    assert set(replies) == {(dimension, reply) for dimension in JUDGED for reply in ("Yes.", "No.")}
    for dimension in JUDGED:
        yes, no = replies[dimension, "Yes."], replies[dimension, "No."]
        assert abs(yes - no) < 4 * (yes + no) ** 0.5


def test_no_statement_of_any_set_is_said():
    said = "\n".join(message.content for talk in TALKS for message in talk)
    assert not [text for one in statement_sets(WORLD) for text in one.texts if text in said]
    held_out = {word for pair in WORLD.word_pairs[WORLD.heard_words :] for word in pair}
    assert not held_out & set(re.findall(r"\w+", said))


def test_the_assistant_never_insults():
    insults = {insult for _, insult in WORLD.word_pairs}
    assert not [m for talk in TALKS for m in talk if m.role == "assistant" and insults & set(m.content.split())]
