"""The model that a command steers, read with its tokeniser."""

import sys
from pathlib import Path

import jax.numpy as jnp

from jtrace.data.tokenizer import SpecialTokens, class_disagreement
from jtrace.inference.language_model import LanguageModel, load_language_model


def load_target(
    folder: Path, name: str, dtype: str, tokenizer: Path | None, special_tokens: SpecialTokens = "parse"
) -> LanguageModel:
    """Reads a model from its folder, and warns where its tokeniser's class and file disagree.

    Args:
        tokenizer: folder of the tokeniser; None for the model's own.
    """
    model = load_language_model(folder, name, jnp.dtype(dtype), tokenizer, special_tokens)
    if disagreement := class_disagreement(tokenizer or folder):
        print(f"warning: {tokenizer or folder}: {disagreement}", file=sys.stderr)
    return model
