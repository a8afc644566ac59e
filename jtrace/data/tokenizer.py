"""Tokenisers, as the checkpoint's own files define them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from jtrace.errors import InputError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
# These say something of a tokeniser but make none.
NO_VOCABULARY = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
# The widest padding of an embedding beyond its tokeniser, or the most tokens added to a tokeniser, of known models.
MOST_PADDING = 2048


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds files of a tokeniser."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES if name not in NO_VOCABULARY)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokeniser; its own special tokens are what `encode` adds.

    Raises:
        InputError: the folder holds no tokeniser, or one that cannot be read.
    """
    if not has_tokenizer(folder):
        raise InputError(
            f"{folder}: no tokeniser files ({TOKENIZER_FILES[0]}, …); copy them there or pass --tokenizer=FOLDER"
        )
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its parsers raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{folder}: the tokeniser cannot be read ({reason}); copy its files again") from None


def check_vocabulary(known: int, embedded: int, folder: Path) -> None:
    """Embeddings are padded to round numbers, and tokens are added; a wide gap is another model's tokeniser.

    Args:
        known, embedded: tokens that the tokeniser of `folder` knows, and that the model has embeddings for.

    Raises:
        InputError: they are more than `MOST_PADDING` apart.
    """
    if abs(known - embedded) > MOST_PADDING:
        raise InputError(
            f"{folder}: the tokeniser knows {known} tokens, the model {embedded}: they do not belong "
            "together; pass the right one with --tokenizer=FOLDER"
        )


def check_same_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path, checkpoint: Path) -> None:
    """A checkpoint's embeddings mean its own tokeniser's tokens; another one may only add to them.

    Args:
        tokenizer, folder: what the checkpoint is to be used with, and where that was read from.
        checkpoint: holds its own tokeniser.

    Raises:
        InputError: a token has another id.
    """
    if folder.resolve() == checkpoint.resolve():
        return
    known = tokenizer.get_vocab()
    for token, number in sorted(read_tokenizer(checkpoint).get_vocab().items(), key=lambda item: item[1]):
        if known.get(token) != number:
            raise InputError(
                f"{folder}: the tokeniser is not the one of {checkpoint}: token {number} is {token!r} there and "
                f"{tokenizer.convert_ids_to_tokens(number) if number < len(known) else 'none'!r} here; leave "
                "--tokenizer out"
            )


def tokenizer_fingerprint(folder: Path) -> str:
    """A hash over the tokeniser's files: checkpoints with equal ones share their packed statements."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            digest.update(f"{name}:{path.stat().st_size}:".encode() + path.read_bytes())
    return digest.hexdigest()


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids of each text, int32, special tokens as the tokeniser itself adds them."""
    if not texts:
        return []
    ids = tokenizer(list(texts), add_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]
    return [np.asarray(row, np.int32) for row in ids]
