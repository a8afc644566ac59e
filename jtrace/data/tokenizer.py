"""Tokenisers, as a checkpoint's files define them.

Where there is a tokenizer.json, it decides the ids. transformers 5 rebuilds some classes (LlamaTokenizer,
GPT2Tokenizer, GPTNeoXTokenizer) from the vocabulary alone, with the class's pre-tokeniser, and then gives other ids. So
only the names of special tokens and the chat template are taken from the declared class.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from jtrace.errors import InputError
from jtrace.hub.files import SMALL_FILES, TOKENIZER_FILES
from jtrace.runtime.foreign import foreign_rust
from jtrace.runtime.small_files import read_json_object, read_small

# These files describe a tokeniser but do not suffice for one.
NO_VOCABULARY = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
READ_FILES = (*SMALL_FILES, "processor_config.json", "preprocessor_config.json")
LARGEST_ID = 2**31 - 1
MOST_TOKENS = 1 << 23  # of a vocabulary; XLM-V has 901,629
ANOTHER = "copy its files again, or pass another one with --tokenizer=FOLDER"
# More than the widest padding of an embedding, and the most tokens added to a tokeniser, in known models.
MOST_PADDING = 2048
# The meaning of special tokens that are written out in a text: the tokens, or plain text.
SpecialTokens = Literal["parse", "text"]
# Texts where tokenisers differ: digits, runs of blanks, line ends, capitals, contractions, other scripts, symbols.
PROBES = (
    "In 1984, 6411 people (aged 15) didn't pay $3.50.",
    " two  blanks,\ttab\n\n  and lines ",
    "Größe, naïve; 北京 東京 🙂 camelCaseWords",
)


def has_tokenizer(folder: Path) -> bool:
    """Returns whether a folder holds files of a tokeniser."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES if name not in NO_VOCABULARY)


def read_tokenizer(folder: Path, special_tokens: SpecialTokens = "parse") -> PreTrainedTokenizerBase:
    """Reads a folder's tokeniser; `encode` adds the special tokens that it defines.

    Args:
        special_tokens: whether `</s>` in a text is parsed as a token or is plain text.

    Raises:
        InputError: the folder holds no tokeniser, or one that cannot be read.
    """
    declared = _read_declared(folder)
    if not (folder / "tokenizer.json").is_file():
        declared.split_special_tokens = special_tokens == "text"
        return declared
    from_file = _read_file(folder)
    with _parsing(folder):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=from_file,
            chat_template=declared.chat_template,
            clean_up_tokenization_spaces=declared.clean_up_tokenization_spaces,
            split_special_tokens=special_tokens == "text",
        )
        tokenizer.name_or_path = str(folder)
        for name, token in declared.special_tokens_map.items():
            # Names are set afterwards: making the tokeniser with them would add tokens that the file lacks.
            if from_file.token_to_id(str(token)) is not None:
                setattr(tokenizer, name, token)
    return tokenizer


def class_disagreement(folder: Path, texts: Sequence[str] = PROBES) -> str:
    """Writes a sentence about texts for which the declared class and tokenizer.json differ; empty if there are none.

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
    # They are opened by transformers as they are, and what an id is beyond the others it takes memory for.
    for name in READ_FILES:
        if os.path.lexists(folder / name):
            read_small(folder / name)
    for name in ("vocab.json", "added_tokens.json"):
        if (folder / name).is_file():
            _check_ids(folder / name, read_json_object(folder / name).values())
    if (folder / "tokenizer.json").is_file():
        _read_file(folder)
    with _parsing(folder):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _read_file(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    with _parsing(folder):
        tokenizer = Tokenizer.from_file(str(path))
        numbers = tokenizer.get_vocab().values()
    _check_ids(path, numbers)
    return tokenizer


def _check_ids(path: Path, numbers: Iterable[Any]) -> None:
    for number in numbers:
        if not isinstance(number, int) or not 0 <= number < MOST_TOKENS:
            raise InputError(f"{path}: gives a token the id {number!r}, above the {MOST_TOKENS} of any; copy it again")


def _parsing(folder: Path) -> AbstractContextManager[None]:
    return foreign_rust(folder, "the tokeniser cannot be read", "copy its files again")


def check_vocabulary(known: int, embedded: int, folder: Path) -> None:
    """Checks that tokeniser and embedding are of similar size: a wide gap means another model's tokeniser.

    Embeddings are padded to round numbers, and tokens are added, so the sizes need not be equal.

    Args:
        known, embedded: numbers of tokens that the tokeniser of `folder` has, and that the model has embeddings for.

    Raises:
        InputError: they are more than `MOST_PADDING` apart.
    """
    if abs(known - embedded) > MOST_PADDING:
        raise InputError(
            f"{folder}: the tokeniser knows {known} tokens, the model {embedded}: they do not belong "
            "together; pass the right one with --tokenizer=FOLDER"
        )


def check_same_tokens(tokenizer: PreTrainedTokenizerBase, folder: Path, checkpoint: Path) -> None:
    """Checks that another tokeniser only adds tokens to those of the checkpoint, whose embeddings belong to them.

    Args:
        tokenizer, folder: the tokeniser to use with the checkpoint, and the folder that it was read from.
        checkpoint: folder of the checkpoint, with its tokeniser.

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
    """Hashes the tokeniser's files: checkpoints with equal hashes share their packed statements."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            content = read_small(path)
            digest.update(f"{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], appended: bool = False, special: bool = True
) -> list[np.ndarray]:
    """Encodes texts into token ids, int32, with the special tokens that the tokeniser puts before a text.

    Args:
        appended: whether to keep the tokens that it puts behind a text, which are no part of the text.
        special: whether it puts any.

    Raises:
        InputError: the tokeniser fails on a text, or gives an id that is none.
    """
    if not texts:
        return []
    encoded, ids = _encoded(tokenizer, texts, special)
    if appended:
        return ids
    # They are the same behind every text; an empty text does not show which of its tokens stand behind it.
    behind = next((_trailing(mask) for mask in encoded["special_tokens_mask"] if 0 in mask), 0)
    return [row[: len(row) - behind] for row in ids]


def own_token_masks(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]] | None = None
) -> list[np.ndarray]:
    """Tells which tokens of texts are their own, bool: none that the tokeniser adds, and no special one.

    Args:
        spans: for each text, the parts of it that count, as first and one past the last character; the whole text, with
            what the tokeniser puts before it, if None.

    Raises:
        InputError: the tokeniser fails on a text, or does not say which characters its tokens are of.
    """
    if not texts:
        return []
    if spans is not None and not tokenizer.is_fast:
        raise InputError(
            f"{tokenizer.name_or_path}: does not say which characters its tokens are of; read the last one"
        )
    encoded, ids = _encoded(tokenizer, texts, special=spans is None, offsets=spans is not None)
    # A word that the tokeniser does not know is the text's, though its token is special.
    apart = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    special = [token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id or token in apart]
    owned = []
    for i, row in enumerate(ids):
        mask = np.asarray(encoded["special_tokens_mask"][i])
        if len(mask) != len(row):  # some slow tokenisers leave out what they add
            mask = np.asarray(tokenizer.get_special_tokens_mask(row.tolist(), already_has_special_tokens=True))
        counted = (mask == 0) & ~np.isin(row, special)
        if spans is not None:
            first, last = np.asarray(encoded["offset_mapping"][i], np.int64).reshape(-1, 2).T
            counted &= np.any([(first < end) & (last > start) for start, end in spans[i]], axis=0)
        owned.append(counted)
    return owned


def _encoded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], special: bool, offsets: bool = False
) -> tuple[Any, list[np.ndarray]]:
    where = getattr(tokenizer, "name_or_path", "") or "the tokeniser"
    with foreign_rust(where, "cannot tokenise a text", ANOTHER):
        encoded = tokenizer(
            list(texts),
            add_special_tokens=special,
            return_attention_mask=False,
            return_special_tokens_mask=True,
            verbose=False,
            **({"return_offsets_mapping": True} if offsets else {}),
        )
        # An id above them all fails here.
        return encoded, [np.asarray(row, np.int32) for row in encoded["input_ids"]]


def appends_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Returns whether the tokeniser puts special tokens behind a text."""
    (bare,), (whole,) = (encode(tokenizer, [text], appended) for appended in (False, True))
    return len(bare) < len(whole)


def check_embedded(ids: Sequence[np.ndarray], embedded: int, name: str) -> None:
    """Refuses tokens that a model has no embedding for: JAX would silently take the last row.

    Args:
        embedded: number of rows of the embedding.
        name: name of the model or its tokeniser, for messages.

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
    """Counts the ones at the end of a mask that has a zero."""
    return list(reversed(mask)).index(0)
