"""Tokens come back from disk as they were."""

import numpy as np
import pytest

from jtrace.data.corpus.token_store import read_tokens, write_tokens
from jtrace.data.corpus.tokenise import Tokens
from jtrace.errors import InputError

DOCUMENTS = [np.array(ids, np.int32) for ids in ([5, 6, 7], [], [8], [299, 0])]


@pytest.mark.parametrize(("known", "dtype"), [(300, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_documents_come_back_in_the_smallest_integers_that_hold_them(tmp_path, known, dtype):
    write_tokens(tmp_path, (Tokens(ids, np.ones(len(ids), bool)) for ids in DOCUMENTS), known, known)
    found = read_tokens(tmp_path)
    assert (found.ids.dtype, found.learnt, len(found)) == (dtype, None, 4)
    for i, ids in enumerate(DOCUMENTS):
        np.testing.assert_array_equal(found.ids[found.offsets[i] : found.offsets[i + 1]], ids)


def test_what_is_not_learnt_is_remembered(tmp_path):
    write_tokens(tmp_path, [Tokens(ids, ids > 5) for ids in DOCUMENTS], 300, 300)
    np.testing.assert_array_equal(read_tokens(tmp_path).learnt, [0, 1, 1, 1, 1, 0])


def test_a_token_without_an_embedding_is_refused(tmp_path):
    with pytest.raises(InputError, match="gives token 299, the model knows 299 only"):
        write_tokens(tmp_path, [Tokens(ids, ids > 5) for ids in DOCUMENTS], 300, 299)


@pytest.mark.parametrize("file", ["ids.bin", "offsets.bin", "tokens.json", "learnt.bin"])
def test_a_damaged_folder_is_refused(tmp_path, file):
    write_tokens(tmp_path, [Tokens(ids, ids > 5) for ids in DOCUMENTS], 300, 300)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-2])
    with pytest.raises(InputError, match="delete the folder to tokenise again"):
        read_tokens(tmp_path)
