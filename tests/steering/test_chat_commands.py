"""Commands within a conversation: a line and a state make another state and words, or one line about what is wrong."""

import dataclasses

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.steering.chat_commands import HELP, is_command, obeyed
from jtrace.steering.conversation import Conversation, Turn
from jtrace.steering.vector import SteeringVector

VECTORS = {
    name: SteeringVector(np.ones((3, 2), np.float32), (0, 1, 2), "step1", name) for name in ("stereoset", "toxigen")
}
TALK = dataclasses.replace(Conversation(VECTORS).steered("toxigen", 1, 2.0), turns=(Turn("a", "b"),))


@pytest.mark.parametrize(
    ("line", "steering"),
    [
        ("/strength 3", "toxigen at layer 1, strength 3"),
        ("/strength  -0.5 ", "toxigen at layer 1, strength -0.5"),
        ("/layer 2", "toxigen at layer 2, strength 2"),
        ("/vector stereoset", "stereoset at layer 1, strength 2"),
        ("/vector stereoset+-0.5*toxigen", "stereoset+-0.5*toxigen at layer 1, strength 2"),
    ],
)
def test_steering_is_changed_and_told_and_the_turns_stay(line, steering):
    changed = obeyed(line, TALK)
    assert (changed.words, changed.conversation.steering, changed.ends) == (steering, steering, False)
    assert changed.conversation.turns == TALK.turns


def test_compare_toggles():
    once = obeyed("/compare", TALK)
    twice = obeyed("/compare", once.conversation)
    assert [(one.conversation.compare, one.words) for one in (once, twice)] == [
        (True, "compare on"),
        (False, "compare off"),
    ]


def test_reset_forgets_the_turns_only():
    changed = obeyed("/reset", TALK).conversation
    assert (changed.turns, changed.steering) == ((), TALK.steering)


def test_show_and_help_change_nothing():
    shown, helped = obeyed("/show", TALK), obeyed("/help", TALK)
    assert shown.conversation is TALK
    assert helped.conversation is TALK
    for part in ("toxigen at layer 1, strength 2", "stereoset, toxigen", "compare   off", "turns     1"):
        assert part in shown.words
    assert helped.words == HELP


def test_quit_ends():
    assert obeyed("/quit", TALK).ends


def test_a_blank_before_the_slash_makes_a_message():
    assert is_command("/etc")
    assert not is_command(" /etc")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/strength nan", "a strength of nan is not a number"),
        ("/strength", "/strength: '' is no number; write it as /strength 2"),
        ("/strength 1 2", "/strength: '1 2' is no number"),
        ("/layer 99", "have no layer 99; they have 0-2"),
        ("/layer -1", "/layer: '-1' is no layer"),
        ("/layer ²", "/layer: '²' is no layer"),
        (f"/layer {'9' * 5000}", "is no layer"),
        ("/vector", "/vector: name a set of stereoset, toxigen"),
        ("/vector sst2", "the vectors hold no set 'sst2'"),
        ("/reset all", "/reset stands by itself; 'all' is too much"),
        ("/", "no command '/'; /help lists them"),
        ("/Show", "no command '/Show'"),
    ],
)
def test_anything_else_is_one_line(line, message):
    with pytest.raises(InputError) as caught:
        obeyed(line, TALK)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["/strength 1", "/layer 1", "/vector x", "/compare"])
def test_without_vectors_there_is_nothing_to_steer_with(line):
    with pytest.raises(InputError, match="begin with --vectors="):
        obeyed(line, Conversation({}))
