"""A conversation's state: what it steers with, what the model is asked, which turns go when there are too many."""

import numpy as np
import pytest

from jtrace.data.corpus.chat_template import TemplateError
from jtrace.errors import InputError
from jtrace.steering.conversation import Conversation, Turn, fitted, message_tokens, plain_text
from jtrace.steering.vector import SteeringVector

VECTORS = {
    name: SteeringVector(np.full((3, 2), value, np.float32), (0, 2), "step1", name)
    for name, value in (("stereoset", 1), ("toxigen", 2))
}
TURNS = (Turn("one", "1 1"), Turn("two", "2"))


def words(messages):
    """A token per word."""
    return np.arange(sum(len(message["content"].split()) for message in messages), dtype=np.int32)


def test_without_vectors_nothing_is_steered():
    plain = Conversation({})
    assert (plain.edit, plain.conditions, plain.steers, plain.steering) == (None, (0,), False, "unsteered")
    with pytest.raises(InputError, match="no vectors to steer with; begin with --vectors="):
        plain.steered(strength=2.0)


def test_vector_layer_and_strength_become_the_edit():
    talk = Conversation(VECTORS).steered("toxigen", 2, -1.5)
    assert talk.steering == "toxigen at layer 2, strength -1.5"
    np.testing.assert_array_equal(talk.edit.push, [[0, 0], [0, 0], [0, -1.5]])
    assert talk.steered("stereoset+-0.5*toxigen").vector.values[0].tolist() == [0, 0]
    assert talk.steered(strength=0.0).edit.push.shape == talk.edit.push.shape  # nothing is compiled again


def test_comparing_answers_under_both_as_long_as_something_is_steered():
    talk = Conversation(VECTORS, compare=True).steered("toxigen", 2, 1.0)
    assert talk.conditions == (1, 0)
    assert talk.steered(strength=0.0).conditions == (1,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": float("nan")}, "a strength of nan is not a number"),
        ({"strength": float("-inf")}, "a strength of -inf is not a number"),
        ({"layer": 1}, "have no layer 1; they have 0, 2"),
        ({"layer": 99}, "have no layer 99"),
        ({"vector": "sst2"}, "vector=sst2: the vectors hold no set 'sst2', but stereoset, toxigen"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Conversation(VECTORS).steered("toxigen", 2, 1.0).steered(**change)


def test_messages_alternate_behind_the_system_s():
    roles = [message["role"] for message in Conversation({}, system="be kind", turns=TURNS).messages("three")]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert plain_text(Conversation({}, system="s", turns=(Turn("a", " b"),)).messages("c")) == "s\na b\nc"


@pytest.mark.parametrize(
    ("context", "dropped", "most"),
    [(20, 0, 4), (10, 0, 4), (9, 1, 4), (7, 1, 4), (6, 2, 4), (5, 2, 4), (4, 2, 3), (2, 2, 1)],
)
def test_the_oldest_turns_go_and_then_the_answer_is_shorter(context, dropped, most):
    """One word is asked; the turns before have three words and two."""
    prompt = fitted(Conversation({}, turns=TURNS), "three", words, context, 4)
    assert (prompt.dropped, prompt.most) == (dropped, most)
    assert prompt.conversation.turns == TURNS[dropped:]
    assert len(prompt.tokens) == [6, 3, 1][dropped]


def test_a_question_that_fills_the_context_or_has_no_tokens_is_refused():
    with pytest.raises(InputError, match="3 tokens leave no room for an answer in the context of 3"):
        fitted(Conversation({}, system="be kind", turns=TURNS), "three", words, 3, 4)
    with pytest.raises(InputError, match="no token"):
        fitted(Conversation({}), "", words, 9, 4)


def test_a_template_that_fails_is_one_line():
    class Failing:
        def render(self, messages, prompt):
            raise TemplateError("it takes more than 20 s")

    class Model:
        name = "tiny"

    with pytest.raises(InputError, match=r"^tiny: the chat template refuses it \(it takes more than 20 s\)$"):
        message_tokens(Model(), Failing(), [])
