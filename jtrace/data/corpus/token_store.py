"""The tokens of a corpus on disk, in one flat file that is memory-mapped.

ids.bin      every document's token ids, one after another, in the smallest unsigned integers that hold them
learnt.bin   a byte per token: 1 if it is learnt; absent where all are
offsets.bin  int64: the start of each document, and the end of the last
tokens.json  the ids' dtype
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jtrace.data.corpus.tokenise import Tokens
from jtrace.errors import InputError
from jtrace.runtime.small_files import read_json_object

IDS, LEARNT, OFFSETS, ABOUT = "ids.bin", "learnt.bin", "offsets.bin", "tokens.json"

DTYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True)
class TokenStore:
    """Documents as slices of one array.

    Attributes:
        learnt: whether each token is learnt; None if all are.
        offsets: document i is `ids[offsets[i] : offsets[i + 1]]`.
    """

    ids: np.ndarray
    learnt: np.ndarray | None
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1


def write_tokens(folder: Path, documents: Iterable[Tokens], known: int, embedded: int) -> None:
    """Writes documents one by one.

    Args:
        folder: an existing folder.
        known: number of the tokeniser's tokens, which decides the dtype.
        embedded: number of tokens that the model has embeddings for.

    Raises:
        InputError: a token has no embedding.
        OSError: the disk is full.
    """
    dtype = np.min_scalar_type(max(known, embedded) - 1)
    written, all_learnt = 0, True
    with (
        open(folder / IDS, "wb") as ids,
        open(folder / LEARNT, "wb") as learnt,
        open(folder / OFFSETS, "wb") as offsets,
    ):
        offsets.write(np.int64(0).tobytes())
        for document in documents:
            if len(document.ids) and (highest := int(document.ids.max())) >= embedded:
                raise InputError(
                    f"the tokeniser gives token {highest}, the model knows {embedded} only; pass --tokenizer"
                )
            ids.write(document.ids.astype(dtype).tobytes())
            learnt.write(document.learnt.tobytes())
            all_learnt = all_learnt and bool(document.learnt.all())
            written += len(document.ids)
            offsets.write(np.int64(written).tobytes())
    if all_learnt:
        (folder / LEARNT).unlink()
    (folder / ABOUT).write_text(json.dumps({"dtype": dtype.name}) + "\n", encoding="utf-8")


def read_tokens(folder: Path) -> TokenStore:
    """Maps what `write_tokens` wrote.

    Raises:
        InputError: files are missing, or their sizes contradict each other.
    """
    try:
        name = read_json_object(folder / ABOUT, remedy="delete the folder to tokenise again")["dtype"]
        if name not in DTYPES:
            raise ValueError(f"the dtype {name!r} is none of {', '.join(DTYPES)}")
        dtype = np.dtype(name)
        offsets = _mapped(folder / OFFSETS, np.dtype(np.int64))
        ids = _mapped(folder / IDS, dtype)
        learnt = _mapped(folder / LEARNT, np.dtype(bool)) if (folder / LEARNT).is_file() else None
        whole = len(ids) == offsets[-1] and (learnt is None or len(learnt) == len(ids))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"{folder}: cannot be read ({error}); delete the folder to tokenise again") from None
    if not whole:
        raise InputError(f"{folder}: its files contradict each other; delete the folder to tokenise again")
    return TokenStore(ids, learnt, offsets)


def _mapped(file: Path, dtype: np.dtype) -> np.ndarray:
    # An empty file cannot be mapped.
    return np.memmap(file, dtype, "r") if file.stat().st_size else np.zeros(0, dtype)
