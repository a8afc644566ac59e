"""What a model is trained on, piece by piece: a plain text or a conversation."""

from typing import NamedTuple


class Message(NamedTuple):
    """A turn of a conversation; what the role `assistant` says is what the model learns to say."""

    role: str
    content: str


Conversation = tuple[Message, ...]
Document = str | Conversation
