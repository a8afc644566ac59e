"""Surface features of texts: length, capitals, punctuation and the like. Axes: N texts."""

from collections.abc import Sequence

import numpy as np

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


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Computes the features named in `SURFACE` for texts that are not empty: float64 [N, len(SURFACE)]."""
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
