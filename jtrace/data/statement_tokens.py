"""Tokens of statements: of texts as they are, of conversations by the model's own chat template."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from jtrace.data.corpus.chat_template import ChatTemplate, TemplateError, conversation_template
from jtrace.data.statements import Chat
from jtrace.data.tokenizer import encode, own_token_masks
from jtrace.errors import InputError


def statement_tokens(
    tokenizer: PreTrainedTokenizerBase,
    given: Sequence[str] | Sequence[Chat],
    context: int,
    name: str,
    where: Callable[[int], str],
) -> list[np.ndarray]:
    """Encodes texts or conversations into token ids, int32, with the special tokens that belong before them.

    A conversation whose last message is not the assistant's ends where the assistant is to speak, so that the last
    token is the last one of the template (add_generation_prompt of transformers).

    Args:
        context: the most tokens of a text.
        name: what the tokeniser is called in messages.
        where: place of a text, by its number, for messages.

    Raises:
        InputError: the tokeniser fails on a text, makes no token of it or too many, or has no chat template for
            conversations, or one that fails.
    """
    if all(isinstance(one, str) for one in given):
        tokens = encode(tokenizer, cast(Sequence[str], given))
    else:
        texts = list(_rendered(tokenizer, cast(Sequence[Chat], given), name, where))
        tokens = encode(tokenizer, texts, appended=True, special=False)  # a template writes special tokens itself
    for i, ids in enumerate(tokens):
        if len(ids) == 0:
            raise InputError(f"{where(i)}: the tokeniser of {name} makes no token of this statement")
        if len(ids) > context:
            raise InputError(f"{where(i)}: {len(ids)} tokens, longer than the model's context of {context}; shorten it")
    return tokens


def statement_token_masks(
    tokenizer: PreTrainedTokenizerBase,
    given: Sequence[str] | Sequence[Chat],
    tokens: Sequence[np.ndarray],
    name: str,
    where: Callable[[int], str],
) -> list[np.ndarray]:
    """Tells which tokens of statements are their own, bool, for each of `statement_tokens`.

    Of a conversation they are those of its messages, in no part what the template writes.

    Raises:
        InputError: a statement has none, or a message is not to be seen in what the template makes of it.
    """
    if all(isinstance(one, str) for one in given):
        owned = own_token_masks(tokenizer, cast(Sequence[str], given))
    else:
        chats = cast(Sequence[Chat], given)
        texts = list(_rendered(tokenizer, chats, name, where))
        marked = [tuple({**message, "content": _mark(at)} for at, message in enumerate(chat)) for chat in chats]
        forms = list(_rendered(tokenizer, marked, name, where))
        spans = [_spans(*one, where(i)) for i, one in enumerate(zip(texts, forms, chats, strict=True))]
        owned = own_token_masks(tokenizer, texts, spans)
    owned = [marks[: len(ids)] for marks, ids in zip(owned, tokens, strict=True)]
    for i, marks in enumerate(owned):
        if not marks.any():
            raise InputError(f"{where(i)}: only special tokens, so there is nothing to pool; read its last token")
    return owned


def _mark(at: int) -> str:
    """Returns a text that no template writes, to stand for a message."""
    return f"\ue000{at}\ue001"


def _spans(text: str, form: str, chat: Chat, where: str) -> list[tuple[int, int]]:
    """Returns the places of messages in a rendered conversation.

    Args:
        form: the same conversation rendered with marks in the messages' places; what lies between is the template's.
    """
    literals = re.split("\ue000\\d+\ue001", form)
    if re.findall("\ue000\\d+\ue001", form) == [_mark(at) for at in range(len(chat))]:
        for written in (str, str.strip):  # many templates strip messages
            messages = [written(message["content"]) for message in chat]
            pieces = [piece for pair in zip(literals, [*messages, ""], strict=True) for piece in pair]
            if "".join(pieces) == text:
                ends = np.cumsum([len(piece) for piece in pieces])[1::2].tolist()
                spans = [(end - len(message), end) for end, message in zip(ends, messages, strict=False)]
                return [span for span in spans if span[0] < span[1]]
    raise InputError(f"{where}: the chat template changes a message, so its tokens are not known; read the last")


def _rendered(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], name: str, where: Callable[[int], str]
) -> Iterator[str]:
    source = conversation_template(tokenizer)
    if not source:
        raise InputError(f"{where(0)}: is a conversation, but the tokeniser of {name} has no chat template; give texts")
    if getattr(tokenizer, "split_special_tokens", False):  # those that the template writes would become plain text
        raise InputError(f"{where(0)}: is a conversation, whose template writes special tokens; read these by parse")
    with ChatTemplate(source, tokenizer.special_tokens_map) as template:
        for i, chat in enumerate(chats):
            try:
                yield template.render(chat, prompt=chat[-1]["role"] != "assistant")
            except TemplateError as error:
                raise InputError(f"{where(i)}: the chat template of {name} refuses it ({error})") from None
