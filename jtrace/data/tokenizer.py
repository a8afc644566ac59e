"""Tokenisers, as the checkpoint's own files define them.

Where there is a tokenizer.json, its ids are the tokeniser's. transformers 5 rebuilds some classes (LlamaTokenizer,
GPT2Tokenizer, GPTNeoXTokenizer) from the vocabulary alone, with the class's own pre-tokeniser, and gives other ids; of
the declared class only the names of special tokens and the chat template are taken.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from jtrace.errors import InputError
from jtrace.hub.files import TOKENIZER_FILES

# These say something of a tokeniser but make none.
NO_VOCABULARY = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
# The widest padding of an embedding beyond its tokeniser, or the most tokens added to a tokeniser, of known models.
MOST_PADDING = 2048
# What special tokens that are written out in a text are: themselves, or the text that they are written in.
SpecialTokens = Literal["parse", "text"]
# Where tokenisers differ: digits, runs of blanks and line ends, capitals, contractions, other scripts, joined signs.
PROBES = (
    "In 1984, 6411 people (aged 15) didn't pay $3.50.",
    " two  blanks,\ttab\n\n  and lines ",
    "Größe, naïve; 北京 東京 🙂 camelCaseWords",
)


def has_tokenizer(folder: Path) -> bool:
    """Whether the folder holds files of a tokeniser."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES if name not in NO_VOCABULARY)


def read_tokenizer(folder: Path, special_tokens: SpecialTokens = "parse") -> PreTrainedTokenizerBase:
    """Read the folder's tokeniser; its own special tokens are what `encode` adds.

    Args:
        special_tokens: what `</s>` in a text becomes.

    Raises:
        InputError: the folder holds no tokeniser, or one that cannot be read.
    """
    declared = _read_declared(folder)
    if not (folder / "tokenizer.json").is_file():
        declared.split_special_tokens = special_tokens == "text"
        return declared
    own = _read_file(folder)
    found = PreTrainedTokenizerFast(
        tokenizer_object=own,
        chat_template=declared.chat_template,
        clean_up_tokenization_spaces=declared.clean_up_tokenization_spaces,
        split_special_tokens=special_tokens == "text",
    )
    for name, token in declared.special_tokens_map.items():
        # Named after it is made: making it with names would add tokens that the file does not know, or not as special.
        if own.token_to_id(str(token)) is not None:
            setattr(found, name, token)
    return found


def class_disagreement(folder: Path, texts: Sequence[str] = PROBES) -> str:
    """Sentence on texts that the declared class would tokenise otherwise than tokenizer.json; empty if there is none.

    Raises:
        InputError: the folder holds no tokeniser, or one that cannot be read.
    """
    if not (folder / "tokenizer.json").is_file():
        return ""
    declared = _read_declared(folder)
    pairs = zip(encode(declared, texts), encode(read_tokenizer(folder), texts), strict=True)
    count = sum(not np.array_equal(one, other) for one, other in pairs)
    if not count:
        return ""
    return (
        f"tokenizer.json is read as it is; as {type(declared).__name__}, which transformers makes of "
        f"tokenizer_config.json, {count} of {len(texts)} texts would have other tokens"
    )


def _read_declared(folder: Path) -> PreTrainedTokenizerBase:
    if not has_tokenizer(folder):
        raise InputError(
            f"{folder}: no tokeniser files ({TOKENIZER_FILES[0]}, …); copy them there or pass --tokenizer=FOLDER"
        )
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its parsers raise
        raise _unreadable(folder, error) from None


def _read_file(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # plain Exception is what it raises
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{folder}: the tokeniser cannot be read ({reason}); copy its files again")


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


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], appended: bool = False) -> list[np.ndarray]:
    """Token ids of each text, int32, behind the special tokens that the tokeniser itself puts before it.

    Args:
        appended: whether those that it puts behind a text stay; they are no part of the text.
    """
    if not texts:
        return []
    found = tokenizer(
        list(texts),
        add_special_tokens=True,
        return_attention_mask=False,
        return_special_tokens_mask=True,
        verbose=False,
    )
    ids = [np.asarray(row, np.int32) for row in found["input_ids"]]
    if appended:
        return ids
    # The same behind every text; an empty one does not show which of its tokens stand behind it.
    behind = next((_trailing(mask) for mask in found["special_tokens_mask"] if 0 in mask), 0)
    return [row[: len(row) - behind] for row in ids]


def appends_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether the tokeniser puts special tokens behind a text."""
    (bare,), (whole,) = (encode(tokenizer, [text], appended) for appended in (False, True))
    return len(bare) < len(whole)


def check_embedded(ids: Sequence[np.ndarray], embedded: int, name: str) -> None:
    """Refuse tokens that a model has no embedding for: JAX would take the last row's in silence.

    Args:
        embedded: rows of the embedding.
        name: of the model, or of where its tokeniser lies.

    Raises:
        InputError: there is such a token.
    """
    highest = max((int(row.max()) for row in ids if len(row)), default=-1)
    if highest >= embedded:
        raise InputError(
            f"{name}: the tokeniser gives token {highest}, the model knows {embedded} only; pass the right one with "
            "--tokenizer=FOLDER"
        )


def _trailing(mask: Sequence[int]) -> int:
    """How many ones a mask ends in; it has a zero."""
    return list(reversed(mask)).index(0)
