"""Documents → tokens, and which of them are learnt: of a plain text all, of a conversation what the assistant says."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from jtrace.data.corpus.readers import Conversation, Document, texts_of
from jtrace.data.tokenizer import encode
from jtrace.errors import InputError

# Encoded together, on all cores.
DOCUMENTS_AT_ONCE, CHARACTERS_AT_ONCE = 10_000, 20_000_000


class Tokens(NamedTuple):
    """A document's tokens, and which of them are to be predicted from those before."""

    ids: Int[np.ndarray, " n"]
    learnt: Bool[np.ndarray, " n"]


def tokenise(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase) -> Iterator[Tokens]:
    """Tokens of every document, with the special tokens that the tokeniser itself adds, and EOS after a plain text.

    Raises:
        InputError: a conversation is there and the tokeniser has no chat template, or one that rewrites earlier turns.
    """
    done = 0
    for some in _batches(documents):
        plain = iter(encode(tokenizer, [document for document in some if isinstance(document, str)], appended=True))
        for number, document in enumerate(some, done + 1):
            if isinstance(document, str):
                yield _ended(next(plain), tokenizer.eos_token_id)
            else:
                yield _of_conversation(document, tokenizer, f"--text: conversation {number}")
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


def _of_conversation(turns: Conversation, tokenizer: PreTrainedTokenizerBase, where: str) -> Tokens:
    """The chat template's text, cut where the assistant begins and ends to speak; what it says is learnt."""
    if not tokenizer.chat_template:
        raise InputError(f"{where}: the tokeniser has no chat template; give plain 'text', or a tokeniser that has one")
    messages = [message._asdict() for message in turns]

    def rendered(count: int, prompt: bool = False) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=prompt))

    done = ""
    ids: list[int] = []
    learnt: list[bool] = []

    def add(upto: str, learn: bool) -> None:
        nonlocal done
        if not upto.startswith(done):
            raise InputError(f"{where}: the chat template rewrites earlier turns; give plain 'text' instead")
        new = tokenizer(upto[len(done) :], add_special_tokens=False, return_attention_mask=False)["input_ids"]
        ids.extend(new)
        learnt.extend([learn] * len(new))
        done = upto

    try:
        for at, turn in enumerate(turns):
            if turn.role == "assistant":
                add(rendered(at, prompt=True), learn=False)
                add(rendered(at + 1), learn=True)
        add(rendered(len(turns)), learn=False)
    except InputError:
        raise
    except Exception as error:  # templates raise whatever they like
        raise InputError(f"{where}: the chat template refuses it ({' '.join(str(error).split())[:200]})") from None
    return Tokens(np.asarray(ids, np.int32), np.asarray(learnt, bool))
