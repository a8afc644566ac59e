"""A checkpoint that is asked: read with its tokeniser, it stops where its files say."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.language_model import load_language_model
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
    with pytest.raises(InputError, match=r"generation_config.json: cannot be read as JSON; download the checkpoint"):
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


def test_completions_end_before_the_stop_token_s_text_only_where_that_is_special(folder):
    change(folder / "generation_config.json", eos_token_id=[])
    whole = loaded(folder).complete(["abc", "a"], 6)
    change(folder / "generation_config.json", eos_token_id=loaded(folder).tokenizer(whole[0][2])["input_ids"])
    cut = loaded(folder).complete(["abc", "a"], 6)
    assert cut[0] == whole[0][: whole[0].index(whole[0][2]) + 1]
    assert whole[1].startswith(cut[1])


def test_texts_are_decoded_without_special_tokens(folder):
    change(folder / "tokenizer_config.json", eos_token="c")
    model = loaded(folder)
    assert [text.replace(" ", "") for text in model.decode([np.array([0, 1, 2]), np.array([3])])] == ["ab", "d"]
