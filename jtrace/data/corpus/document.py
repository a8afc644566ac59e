"""A document of training text: a plain text or a conversation."""

from typing import NamedTuple


class Message(NamedTuple):
    """A turn of a conversation; the model learns to say the turns of the role `assistant`."""

    role: str
    content: str


Conversation = tuple[Message, ...]
Document = str | Conversation
