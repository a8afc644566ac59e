"""Tokenisation of documents. All tokens of a plain text are learnt; of a conversation, those of the assistant."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from jtrace.data.corpus.chat_template import ChatTemplate, TemplateError, conversation_template
from jtrace.data.corpus.readers import Conversation, Document, texts_of
from jtrace.data.tokenizer import encode
from jtrace.errors import InputError

# The most documents and characters that are encoded together, on all cores.
DOCUMENTS_AT_ONCE, CHARACTERS_AT_ONCE = 10_000, 20_000_000


class Tokens(NamedTuple):
    """The tokens of a document, and a mask of those to be predicted from the tokens before."""

    ids: Int[np.ndarray, " n"]
    learnt: Bool[np.ndarray, " n"]


def tokenise(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase) -> Iterator[Tokens]:
    """Yields the tokens of every document, with the tokeniser's special tokens, and EOS after a plain text.

    Raises:
        InputError: there is a conversation, and the tokeniser has no chat template or one that rewrites earlier turns.
    """
    done = 0
    with ChatTemplate(conversation_template(tokenizer), tokenizer.special_tokens_map) as template:
        for some in _batches(documents):
            plain = iter(encode(tokenizer, [document for document in some if isinstance(document, str)], appended=True))
            for number, document in enumerate(some, done + 1):
                if isinstance(document, str):
                    yield _ended(next(plain), tokenizer.eos_token_id)
                else:
                    yield _of_conversation(document, tokenizer, template, f"--text: conversation {number}")
            done += len(some)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += sum(map(len, texts_of([document])))
        if len(batch) == DOCUMENTS_AT_ONCE or size >= CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    yield batch


def _ended(ids: np.ndarray, eos: int | None) -> Tokens:
    if eos is not None and (not len(ids) or ids[-1] != eos):
        ids = np.append(ids, np.int32(eos))
    return Tokens(ids, np.ones(len(ids), bool))


def _of_conversation(
    turns: Conversation, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, where: str
) -> Tokens:
    """Tokenises the chat template's text, cut at the start and end of the assistant's turns, which are learnt."""
    if not conversation_template(tokenizer):
        raise InputError(f"{where}: the tokeniser has no chat template; give plain 'text', or a tokeniser that has one")
    messages = [message._asdict() for message in turns]

    done = ""
    ids: list[int] = []
    learnt: list[bool] = []

    def add(upto: str, learn: bool) -> None:
        nonlocal done
        if not upto.startswith(done):
            raise InputError(f"{where}: the chat template rewrites earlier turns; give plain 'text' instead")
        (new,) = encode(tokenizer, [upto[len(done) :]], appended=True, special=False)
        ids.extend(new.tolist())
        learnt.extend([learn] * len(new))
        done = upto

    try:
        for at, turn in enumerate(turns):
            if turn.role == "assistant":
                add(template.render(messages[:at], prompt=True), learn=False)
                add(template.render(messages[: at + 1]), learn=True)
        add(template.render(messages), learn=False)
    except TemplateError as error:
        raise InputError(f"{where}: the chat template refuses it ({error})") from None
    return Tokens(np.asarray(ids, np.int32), np.asarray(learnt, bool))
