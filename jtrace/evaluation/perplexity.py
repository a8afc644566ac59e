"""Perplexity of a model over documents, and the windows that longer ones are scored in.

A document is scored whole. Where it is longer than a window, windows move over it by half their width, and each scores
the tokens that those before it have not: the strided windows of transformers' guide to perplexity. So every token but
the document's first is predicted once, after at least half a window of others where there are so many.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jtrace.errors import InputError
from jtrace.evaluation.task import Likelihood, Outcome, Task, Text
from jtrace.probing.protocols import PROTOCOLS

# Characters, some 2,000 tokens of English.
PART = 8000


def perplexity_task(documents: Sequence[Text | str], name: str = "perplexity") -> Task:
    """e to the power of the mean negative log-probability of a token, over all tokens of all documents.

    Tokens are the model's own, so that models with other tokenisers do not compare.
    A document of fewer than two tokens, where nothing is predicted, does not count.
    """
    items = tuple(Text(i, document) if isinstance(document, str) else document for i, document in enumerate(documents))
    return Task(name, PROTOCOLS, items, _perplexity, main="perplexity")


def _perplexity(answers: Sequence[Likelihood]) -> Mapping[str, Outcome]:
    nats, tokens = np.array(answers, np.float64).reshape(-1, 2).T
    return {"perplexity": Outcome(nats / np.maximum(tokens, 1), tokens, exponential=True)}


def parts(text: str, length: int = PART) -> list[Text]:
    """A document as parts of `length` characters, predicted whole: its interval is taken over parts."""
    starts = range(0, len(text) if text.strip() else 0, length)
    return [Text(i, text[start : start + length], follows=i > 0) for i, start in enumerate(starts)]


def documents(items: Sequence[Text]) -> list[list[int]]:
    """The places of each document's parts, documents in order."""
    places: list[list[int]] = []
    for place, item in enumerate(items):
        if item.follows and places:
            places[-1].append(place)
        else:
            places.append([place])
    return places


def part_at(lengths: Sequence[int], share: float) -> int:
    """The part of a document that lies behind a share of it, 0 ≤ share < 1, by the parts' lengths."""
    ends = np.cumsum(lengths)
    return min(int(np.searchsorted(ends, share * ends[-1], side="right")), len(ends) - 1)


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
