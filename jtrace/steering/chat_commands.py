"""Commands within a conversation: a line that begins with a slash → another state, and words about it."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from jtrace.errors import InputError
from jtrace.steering.conversation import Conversation

HELP = """\
/strength NUMBER  steer as strongly; 0 is the model as it is, a negative number steers the other way
/layer NUMBER     steer this layer
/vector SET       steer with another set's vector, or a sum as stereoset+-0.5*toxigen
/compare          show the unsteered answer beside the steered one, or stop that
/reset            forget the conversation
/show             what is set
/help             this
/quit             end, as Ctrl-D
Ctrl-C stops an answer. A message that begins with a slash needs a blank before it."""


class Obeyed(NamedTuple):
    """The conversation after a command, words to print, and whether it has ended."""

    conversation: Conversation
    words: str
    ends: bool = False


def is_command(line: str) -> bool:
    """Tells a command from a message."""
    return line.startswith("/")


def obeyed(line: str, conversation: Conversation) -> Obeyed:
    """Carries out a command.

    Raises:
        InputError: there is no such command, or it cannot be done; the conversation stays as it is.
    """
    name, _, value = line.strip().partition(" ")
    if name not in _COMMANDS:
        raise InputError(f"no command '{name}'; /help lists them, and a blank before the slash makes it a message")
    value = value.strip()
    if value and name not in _WITH_VALUE:
        raise InputError(f"{name} stands by itself; '{value}' is too much")
    return _COMMANDS[name](conversation, value)


def settings(conversation: Conversation) -> str:
    """Lists what is set."""
    known = ", ".join(conversation.vectors) or "none"
    lines = {
        "steering": conversation.steering,
        "vectors": known,
        "compare": "on" if conversation.compare else "off",
        "turns": str(len(conversation.turns)),
    }
    if conversation.system:
        lines["system"] = conversation.system
    return "\n".join(f"{name:<9} {value}" for name, value in lines.items())


def _strength(conversation: Conversation, value: str) -> Obeyed:
    try:
        strength = float(value)
    except ValueError:
        raise InputError(f"/strength: '{value}' is no number; write it as /strength 2") from None
    return _said(conversation.steered(strength=strength))


def _layer(conversation: Conversation, value: str) -> Obeyed:
    if not (value.isascii() and value.isdecimal() and len(value) < 6):
        raise InputError(f"/layer: '{value}' is no layer; write it as /layer 15")
    return _said(conversation.steered(layer=int(value)))


def _vector(conversation: Conversation, value: str) -> Obeyed:
    if not value:
        raise InputError(f"/vector: name a set of {', '.join(conversation.vectors) or 'none'}")
    return _said(conversation.steered(vector=value))


def _compare(conversation: Conversation, _: str) -> Obeyed:
    if not conversation.vectors:
        raise InputError("/compare: nothing is steered; begin with --vectors=RUN/vectors/NAME.safetensors")
    changed = replace(conversation, compare=not conversation.compare)
    return Obeyed(changed, f"compare {'on' if changed.compare else 'off'}")


def _said(conversation: Conversation) -> Obeyed:
    return Obeyed(conversation, conversation.steering)


_WITH_VALUE = {"/strength", "/layer", "/vector"}
_COMMANDS: dict[str, Callable[[Conversation, str], Obeyed]] = {
    "/strength": _strength,
    "/layer": _layer,
    "/vector": _vector,
    "/compare": _compare,
    "/reset": lambda conversation, _: Obeyed(replace(conversation, turns=()), "forgotten"),
    "/show": lambda conversation, _: Obeyed(conversation, settings(conversation)),
    "/help": lambda conversation, _: Obeyed(conversation, HELP),
    "/quit": lambda conversation, _: Obeyed(conversation, "", ends=True),
}
