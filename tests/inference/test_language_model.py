"""A checkpoint that is asked: read with its tokeniser, it stops where its files say."""

import json
import shutil
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.data.tokenizer import encode
from jtrace.errors import InputError
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.language_model import load_language_model
from tests.conftest import GOLDENS, LETTERS, letter_tokenizer


@pytest.fixture
def folder(tmp_path):
    """A tiny Llama whose config.json says that token 2, `c`, ends a text."""
    folder = tmp_path / "tiny"
    shutil.copytree(GOLDENS / "llama-full", folder)
    letter_tokenizer(folder)
    return folder


def change(path, **values):
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | values))


def loaded(folder, **options):
    return load_language_model(folder, "tiny", jnp.float32, **options)


def test_a_folder_is_read_with_its_tokeniser(folder):
    model = loaded(folder)
    assert (model.name, model.model_type, model.stop) == ("tiny", "llama", (2,))
    assert (model.config.vocab_size, model.dtype) == (61, jnp.float32)
    assert model.tokenizer("abc")["input_ids"] == [0, 1, 2]


def test_generation_config_says_where_to_stop_before_config(folder):
    change(folder / "generation_config.json", eos_token_id=[5, 7])
    assert loaded(folder).stop == (5, 7)
    change(folder / "generation_config.json", eos_token_id=0)
    assert loaded(folder).stop == (0,)


def test_a_generation_config_without_a_stop_leaves_config_s(folder):
    change(folder / "generation_config.json", temperature=0.5)
    assert loaded(folder).stop == (2,)


def test_without_either_the_tokeniser_s_end_of_text_is_taken(folder):
    change(folder / "config.json", eos_token_id=None)
    assert loaded(folder).stop == ()
    change(folder / "tokenizer_config.json", eos_token="d")
    assert loaded(folder).stop == (3,)


@pytest.mark.parametrize("content", ['{"eos_token_id": 2', "[2]", "\ufeff\udcff"])
def test_a_damaged_generation_config_is_refused(folder, content):
    (folder / "generation_config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"generation_config.json: (is|holds a list,) not .*; mend it, copy it again"):
        loaded(folder)


def test_a_stop_that_is_no_token_is_refused(folder):
    change(folder / "generation_config.json", eos_token_id=["</s>"])
    with pytest.raises(InputError, match=r"tiny: eos_token_id is \['</s>'\]; a token id or a list of them is needed"):
        loaded(folder)


def test_a_folder_without_a_tokeniser_takes_another_s(folder, tmp_path):
    other = tmp_path / "tokeniser"
    letter_tokenizer(other)
    for file in other.iterdir():
        (folder / file.name).unlink()
    with pytest.raises(InputError, match="no tokeniser files"):
        loaded(folder)
    assert loaded(folder, tokenizer=other).tokenizer("ab")["input_ids"] == [0, 1]


def test_another_model_s_tokeniser_is_refused(folder, tmp_path):
    path = folder / "tokenizer.json"
    vocabulary = {letter: i for i, letter in enumerate([*LETTERS, "?"])} | {f"word{i}": 28 + i for i in range(3000)}
    content = json.loads(path.read_text())
    content["model"]["vocab"] = vocabulary
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="the tokeniser knows 3028 tokens, the model 61: they do not belong together"):
        loaded(folder)


def test_completions_are_greedy_and_end_with_a_stop_token(folder):
    """In the order of the prompts, though shorter ones are computed first."""
    change(folder / "generation_config.json", eos_token_id=[])
    model, prompts = loaded(folder), ["abcde", "b", "abc"]
    ids = encode(model.tokenizer, prompts)
    whole = {i: found for i, (found,) in generate(model.params, model.config, ids, Sampling(6))}
    words = [chr(ord("A") + i) for i in range(61)]
    model = replace(model, tokenizer=Words(model.tokenizer, words))
    assert model.complete(prompts, 6) == ["".join(words[token] for token in whole[i]) for i in range(3)]
    stopped = replace(model, stop=(int(whole[0][2]),)).complete(prompts, 6)
    end = words[whole[0][2]]
    assert stopped == [text[: text.index(end) + 1] if end in text else text for text in model.complete(prompts, 6)]


class Words:
    """The letters' tokens going in, a sign for every token of the model coming out."""

    def __init__(self, letters, signs):
        self.letters, self.signs, self.all_special_ids = letters, signs, []

    def __call__(self, texts, **options):
        return self.letters(texts, **options)

    def batch_decode(self, tokens, skip_special_tokens):
        return ["".join(self.signs[token] for token in row) for row in tokens]


def test_texts_are_decoded_without_special_tokens(folder):
    change(folder / "tokenizer_config.json", eos_token="c")
    model = loaded(folder)
    assert [text.replace(" ", "") for text in model.decode([np.array([0, 1, 2]), np.array([3])])] == ["ab", "d"]


def test_special_tokens_in_a_prompt_are_parsed_or_taken_as_text(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    kind = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    content["added_tokens"] = [{"id": 28, "content": "end", "special": True, **kind}]
    path.write_text(json.dumps(content))
    (parsed,), (text,) = (loaded(folder, special_tokens=how).encode(["bend"]) for how in ("parse", "text"))
    assert (parsed.tolist(), text.tolist()) == ([1, 28], [1, 4, 13, 3])
