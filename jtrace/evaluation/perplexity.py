"""How well a model predicts text: perplexity over documents, and the windows that longer ones are scored in."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jtrace.errors import InputError
from jtrace.evaluation.task import Likelihood, Outcome, Task, Text

# Characters, some 2,000 tokens of English.
PIECE = 8000


def perplexity_task(documents: Sequence[Text | str], name: str = "perplexity") -> Task:
    """e to the power of the mean negative log-probability of a token, over all tokens of all documents.

    A document of fewer than two tokens, where nothing is predicted, does not count.
    """
    items = tuple(Text(i, document) if isinstance(document, str) else document for i, document in enumerate(documents))
    return Task(name, "", ("paper", "sound"), items, _perplexity, main="perplexity", higher_is_better=False)


def _perplexity(answers: Sequence[Likelihood]) -> Mapping[str, Outcome]:
    nats, tokens = np.array(answers, np.float64).reshape(-1, 2).T
    return {"perplexity": Outcome(nats / np.maximum(tokens, 1), tokens, exponential=True)}


def pieces(text: str, length: int = PIECE) -> list[Text]:
    """A long text as documents of at least `length` characters, cut at line ends, so that intervals can be taken.

    The first tokens of each are predicted with less before them than in the whole, which raises perplexity a little.
    """
    found, held = [], ""
    for line in text.splitlines(keepends=True):
        held += line
        if len(held) >= length:
            found.append(held)
            held = ""
    if held.strip():
        found.append(held)
    return [Text(i, piece) for i, piece in enumerate(found)]


class Window(NamedTuple):
    """Tokens `start` to `stop` of a document are read, and those from `first_scored` on are scored."""

    start: int
    first_scored: int
    stop: int


def windows(ids: np.ndarray, width: int, stride: int) -> list[Window]:
    """Windows that score every token of a document but its first once.

    Each token is scored after at least `width` − `stride` others, or after all before it where these are fewer.

    Args:
        ids: the document's tokens, int [N]; none or one gives no window.
        width: how many tokens a window holds at most.
        stride: how many tokens a window scores at most, save the first one, which scores all of its tokens but one.

    Raises:
        InputError: a stride that is not from 1 to `width` − 1: each scored token needs one before it.
    """
    if not 1 <= stride < width:
        raise InputError(f"windows of {width} tokens at a stride of {stride}: take a stride from 1 to {width - 1}")
    if len(ids) < 2:
        return []
    later = [
        Window(min(first + stride, len(ids)) - width, first, min(first + stride, len(ids)))
        for first in range(width, len(ids), stride)
    ]
    return [Window(0, 1, min(width, len(ids))), *later]
