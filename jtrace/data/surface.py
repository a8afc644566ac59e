"""What a text shows without any model of language: which words it has, and how it is written. Axes: N texts."""

import itertools
from collections.abc import Sequence

import numpy as np

from jtrace.data.groups import numbered, words_of

SURFACE = (
    "characters",
    "logarithm of characters",
    "words",
    "characters per word",
    "share of upper-case letters",
    "share of digits",
    "share of punctuation and symbols",
    "commas per character",
    "apostrophes per character",
    "begins with an upper-case letter",
    "ends with a letter or digit",
    "holds a question mark",
    "holds an exclamation mark",
)


def word_presence(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which text has which word, each pair once, upper and lower case told apart.

    Returns:
        Text and word of each pair, int64; words are numbered by first appearance.
    """
    words = [tuple(dict.fromkeys(form)) for form in words_of(texts, fold_case=False)]
    rows = np.repeat(np.arange(len(texts)), list(map(len, words)))
    return rows, numbered(itertools.chain.from_iterable(words))


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """The features named in `SURFACE`, of texts that are not empty: float64 [N, len(SURFACE)]."""
    return np.array([_features(text) for text in texts], np.float64).reshape(-1, len(SURFACE))


def _features(text: str) -> tuple[float, ...]:
    length, words = len(text), len(text.split())
    symbols = sum(not (character.isalnum() or character.isspace()) for character in text)
    return (
        length,
        np.log(length),
        words,
        length / max(words, 1),
        sum(map(str.isupper, text)) / length,
        sum(map(str.isdigit, text)) / length,
        symbols / length,
        text.count(",") / length,
        (text.count("'") + text.count("’")) / length,
        text[0].isupper(),
        text.rstrip()[-1:].isalnum(),
        "?" in text,
        "!" in text,
    )
