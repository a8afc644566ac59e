"""Text that is printed while tokens still come: the beginning of the whole text, and soon all of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from jtrace.data.corpus.train_tokenizer import SMALLEST, train_tokenizer
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.inference.language_model import LanguageModel
from jtrace.inference.settled_text import settled_text

TEXT = "Größe, 北京 🙂👩\u200d🚀 it' s n't . \ufffd end"


def model_of(tokenizer):
    """A decoder of tokens, without a model."""
    fake = SimpleNamespace(tokenizer=tokenizer, name="tiny")
    fake.decode = lambda tokens: LanguageModel.decode(fake, tokens)
    return fake


@pytest.fixture
def bytes_model(tmp_path):
    """One token per byte, but for some pairs."""
    train_tokenizer(["the cat", "Größe"], SMALLEST + 8, tmp_path)
    return model_of(read_tokenizer(tmp_path))


@pytest.fixture
def pieces_model():
    """SentencePiece's way: a mark for a blank, which a text's first word loses, and bytes for what has no token."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "▁cat", "s", "é"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return model_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False))


def shown(model, ids):
    """Settled texts after every token; each begins with the one before, and the whole text with all."""
    ids, whole = np.array(ids, np.int32), model.decode([np.array(ids, np.int32)])[0]
    texts = [settled_text(model, ids[:count]) for count in range(len(ids) + 1)]
    for before, after in zip(texts, [*texts[1:], whole], strict=True):
        assert after.startswith(before)
    return texts


@pytest.mark.parametrize("clean", [False, True])
def test_bytes_of_a_character_wait_for_each_other(bytes_model, clean):
    bytes_model.tokenizer.clean_up_tokenization_spaces = clean
    (ids,) = encode(bytes_model.tokenizer, [TEXT], special=False)
    texts = shown(bytes_model, ids)
    assert len(set(texts)) > 5
    if not clean:
        assert texts[-1] == TEXT


def test_a_run_of_single_bytes_waits_for_its_end(pieces_model):
    number = pieces_model.tokenizer.convert_tokens_to_ids
    good, bad = [number(f"<0x{byte:02X}>") for byte in "京".encode()], number("<0xFF>")
    the, cat, s = map(number, ("▁the", "▁cat", "s"))
    assert shown(pieces_model, [the, cat, *good, s]) == ["", "the", "the cat", *["the cat"] * 3, "the cat京s"]
    assert shown(pieces_model, [the, *good, bad, s])[-1] == "the" + "\ufffd" * 4 + "s"
