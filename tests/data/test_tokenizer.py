"""Tokenisers: the checkpoint's own ids and special tokens."""

import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jtrace.data.tokenizer import encode, read_tokenizer, tokenizer_fingerprint
from jtrace.errors import InputError


@pytest.fixture
def byte_level(tmp_path):
    """A byte-level BPE with one merge, that begins every text with <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", *alphabet, "ab"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(tmp_path / "model")
    return tmp_path / "model", vocabulary


def test_special_tokens_are_those_the_tokeniser_adds_itself(byte_level):
    folder, vocabulary = byte_level
    ids = encode(read_tokenizer(folder), ["ab", "b a"])
    assert [row.tolist() for row in ids] == [
        [0, vocabulary["ab"]],
        [0, vocabulary["b"], vocabulary["Ġ"], vocabulary["a"]],
    ]
    assert ids[0].dtype == np.int32


def test_texts_of_any_bytes_come_back(byte_level):
    tokenizer = read_tokenizer(byte_level[0])
    for text in (" trailing ", "tab\tand\nnewline", "_x000D_", "ünïcödé 🙂", "<s>x"):
        (ids,) = encode(tokenizer, [text])
        assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>" + text


def test_the_fingerprint_follows_the_files_not_the_folder(byte_level, tmp_path):
    folder, _ = byte_level
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert tokenizer_fingerprint(copy) == tokenizer_fingerprint(folder)
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace('"ab"', '"ba"'))
    assert tokenizer_fingerprint(copy) != tokenizer_fingerprint(folder)


def test_a_missing_or_damaged_tokeniser_names_the_folder(byte_level, tmp_path):
    with pytest.raises(InputError, match="no tokeniser files"):
        read_tokenizer(tmp_path)
    (byte_level[0] / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"model: the tokeniser cannot be read"):
        read_tokenizer(byte_level[0])


@pytest.mark.real
def test_smollm2_ids_are_the_known_ones(shared):
    tokenizer = read_tokenizer(shared / "models" / "smollm2_tokenizer")
    (ids,) = encode(tokenizer, ["The capital of France is Paris."])
    assert ids.tolist() == [504, 3575, 282, 4649, 314, 7042, 30]
