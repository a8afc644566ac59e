"""Text of an answer that is still being generated: as much of it as further tokens cannot change."""

import re

import numpy as np

from jtrace.inference.language_model import LanguageModel

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
REPLACEMENT = "\ufffd"  # that bytes which are no character yet, or never, are decoded to


def settled_text(model: LanguageModel, tokens: np.ndarray) -> str:
    """Decodes tokens up to where further tokens could change the text.

    Left out at the end are bytes that are no whole character yet; all tokens that stand for single bytes, as one more
    can make the whole run of them invalid; and the last word, where the tokeniser takes blanks out before punctuation.
    """
    names = model.tokenizer.convert_ids_to_tokens(tokens.tolist())
    bytes_behind = next((at for at, name in enumerate(reversed(names)) if not BYTE.fullmatch(str(name))), len(names))
    (text,) = model.decode([tokens[: len(tokens) - bytes_behind]])
    if getattr(model.tokenizer, "clean_up_tokenization_spaces", False):
        text = text[: max(text.rfind(" "), 0)]
    return text.rstrip(REPLACEMENT)
