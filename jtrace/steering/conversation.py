"""A conversation with a model under a steering vector: its state, its prompts, and which turns fit into the context."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from jtrace.data.corpus.chat_template import ChatTemplate, TemplateError
from jtrace.data.tokenizer import encode
from jtrace.errors import InputError
from jtrace.inference.language_model import LanguageModel
from jtrace.models.intervention import Edit
from jtrace.steering.vector import Condition, SteeringVector, combined, edit_of

Message = Mapping[str, str]


class Turn(NamedTuple):
    """A question and its answer."""

    asked: str
    answered: str


# eq=False: vectors have no single truth value.
@dataclass(frozen=True, eq=False)
class Conversation:
    """A conversation, and what the model is steered with.

    Attributes:
        vectors: that can be chosen, by set; empty where nothing is steered.
        vector: the chosen one; None where nothing is steered.
        compare: show the unsteered model's answer beside the steered one's.
        system: a message before all others; empty for none.
    """

    vectors: Mapping[str, SteeringVector]
    vector: SteeringVector | None = None
    layer: int = 0
    strength: float = 1.0
    compare: bool = False
    system: str = ""
    turns: tuple[Turn, ...] = ()

    @property
    def edit(self) -> Edit | None:
        """Condition 0, which changes nothing, and condition 1, the chosen vector."""
        return None if self.vector is None else edit_of(self.vector, [Condition((self.layer,), self.strength)])

    @property
    def steers(self) -> bool:
        return self.vector is not None and self.strength != 0

    @property
    def conditions(self) -> tuple[int, ...]:
        """Conditions to answer under; the answer of the first is kept."""
        if self.vector is None:
            return (0,)
        return (1, 0) if self.compare and self.steers else (1,)

    @property
    def steering(self) -> str:
        """Words that say what the model is steered with."""
        if self.vector is None:
            return "unsteered"
        return f"{self.vector.dataset} at layer {self.layer}, strength {self.strength:g}"

    def steered(
        self, vector: str | None = None, layer: int | None = None, strength: float | None = None
    ) -> "Conversation":
        """The same with another vector, layer or strength.

        Raises:
            InputError: there is no such vector or layer, or the strength is not finite.
        """
        if not self.vectors:
            raise InputError("no vectors to steer with; begin with --vectors=RUN/vectors/NAME.safetensors")
        changed = replace(
            self,
            vector=self.vector if vector is None else combined(vector, self.vectors, "vector"),
            layer=self.layer if layer is None else layer,
            strength=self.strength if strength is None else strength + 0.0,  # minus zero is zero
        )
        if not math.isfinite(changed.strength):
            raise InputError(f"a strength of {strength} is not a number to steer with; give a finite one")
        _ = changed.edit  # refuses a layer that the vector lacks
        return changed

    def messages(self, asked: str) -> list[Message]:
        """Messages up to a question that is to be answered."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        said = [
            {"role": role, "content": text}
            for turn in self.turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        return [*system, *said, {"role": "user", "content": asked}]

    def answered(self, asked: str, text: str) -> "Conversation":
        return replace(self, turns=(*self.turns, Turn(asked, text)))


class Prompt(NamedTuple):
    """Tokens to continue.

    Attributes:
        conversation: with the turns that the tokens hold.
        dropped: number of turns that were left out, the oldest ones.
        most: the most tokens of the answer.
    """

    conversation: Conversation
    tokens: np.ndarray
    dropped: int
    most: int


def fitted(
    conversation: Conversation,
    asked: str,
    tokens_of: Callable[[Sequence[Message]], np.ndarray],
    context: int,
    max_new_tokens: int,
) -> Prompt:
    """Makes the prompt of a question, without the oldest turns where all of them leave no room for the answer.

    Where the question alone leaves less, the answer is shorter.

    Args:
        tokens_of: tokens of messages.
        context: the most tokens of prompt and answer together.

    Raises:
        InputError: the question leaves no room at all, or has no tokens.
    """
    for dropped in range(len(conversation.turns) + 1):
        shorter = replace(conversation, turns=conversation.turns[dropped:])
        tokens = tokens_of(shorter.messages(asked))
        if len(tokens) + max_new_tokens <= context:
            break
    if not len(tokens):
        raise InputError("the tokeniser makes no token of this; write something else")
    if len(tokens) >= context:
        raise InputError(f"{len(tokens)} tokens leave no room for an answer in the context of {context}; shorten it")
    return Prompt(shorter, tokens, dropped, min(max_new_tokens, context - len(tokens)))


def message_tokens(model: LanguageModel, template: ChatTemplate | None, messages: Sequence[Message]) -> np.ndarray:
    """Returns the tokens of messages as the chat template writes them, or as plain text where there is none.

    Raises:
        InputError: the template fails on them.
    """
    if template is None:
        return model.encode([plain_text(messages)])[0]
    try:
        text = template.render(messages, prompt=True)
    except TemplateError as error:
        raise InputError(f"{model.name}: the chat template refuses it ({error})") from None
    return encode(model.tokenizer, [text], appended=True, special=False)[0]


def plain_text(messages: Sequence[Message]) -> str:
    """Writes messages as one text to go on with: an answer right behind what it continues, the next on a new line."""
    text = ""
    for message in messages:
        text += message["content"] if message["role"] == "assistant" or not text else f"\n{message['content']}"
    return text
