"""A trained tokeniser encodes any text, and transformers reads it."""

import pytest

from jtrace.data.corpus.train_tokenizer import BOS, EOS, SMALLEST, train_tokenizer
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["the cat sat on the mat", "the dog sat on the log"] * 20, SMALLEST + 20, folder)
    return read_tokenizer(folder)


@pytest.mark.parametrize("text", ["the cat sat", " Zürich, 東京 🦉\n\ttabs  and  spaces ", "\x00"])
def test_any_text_comes_back_as_it_was_after_the_first_token(tokenizer, text):
    (ids,) = encode(tokenizer, [text])
    assert ids[0] == tokenizer.bos_token_id == tokenizer.convert_tokens_to_ids(BOS)
    assert tokenizer.decode(ids[1:]) == text


def test_frequent_words_become_single_tokens(tokenizer):
    assert SMALLEST < len(tokenizer) <= SMALLEST + 20
    assert len(tokenizer(" the", add_special_tokens=False)["input_ids"]) == 1


def test_a_chat_is_rendered_with_an_end_after_the_assistant(tokenizer):
    turns = [{"role": "user", "content": "sat?"}, {"role": "assistant", "content": "cat"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == f"{BOS}<|user|>sat?<|assistant|>cat{EOS}"
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt + "cat")


def test_fewer_tokens_than_bytes_are_refused(tmp_path):
    with pytest.raises(InputError, match=f"--vocab_size=100: bytes and special tokens alone are {SMALLEST}"):
        train_tokenizer(["a"], 100, tmp_path)


def test_only_the_beginning_of_a_large_corpus_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("jtrace.data.corpus.train_tokenizer.MOST_CHARACTERS", 10)
    read = []
    train_tokenizer((read.append(text) or text for text in ["abcdef"] * 100), SMALLEST, tmp_path)
    assert len(read) == 3
