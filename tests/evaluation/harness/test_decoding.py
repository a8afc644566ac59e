"""lm-eval's `generation_kwargs` as jtrace's settings, and where a completion ends."""

import jax.numpy as jnp
import pytest

from jtrace.errors import InputError
from jtrace.evaluation.harness.decoding import MOST_NEW_TOKENS, CompletionSettings
from jtrace.inference.generate import Sampling
from jtrace.inference.language_model import load_language_model
from tests.tiny_harness import write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(write_model(tmp_path_factory.mktemp("models") / "tiny"), "tiny", jnp.float32)


@pytest.mark.parametrize(
    ("generation", "settings"),
    [
        ({}, CompletionSettings(("</s>",), MOST_NEW_TOKENS, 0.0)),
        ({"until": "\n", "max_gen_toks": 5}, CompletionSettings(("\n", "</s>"), 5, 0.0)),
        ({"until": ["a", "</s>"], "max_new_tokens": 7}, CompletionSettings(("a", "</s>"), 7, 0.0)),
        ({"do_sample": True, "temperature": 0.5}, CompletionSettings(("</s>",), MOST_NEW_TOKENS, 0.5)),
        # Greedy, as in lm-eval, where nothing asks for samples.
        ({"do_sample": False, "temperature": 0.5}, CompletionSettings(("</s>",), MOST_NEW_TOKENS, 0.0)),
        # Settings of samples do nothing to a greedy choice, and these values of others do nothing at all.
        ({"top_p": 0.9, "top_k": 50}, CompletionSettings(("</s>",), MOST_NEW_TOKENS, 0.0)),
        ({"num_beams": 1, "use_cache": True, "seed": None}, CompletionSettings(("</s>",), MOST_NEW_TOKENS, 0.0)),
    ],
)
def test_generation_kwargs_are_read_as_lm_eval_reads_them(generation, settings):
    assert CompletionSettings.of(generation, "</s>", "a task") == settings


def test_without_an_end_of_text_only_the_task_s_texts_end_a_completion():
    assert CompletionSettings.of({"until": ["e"]}, None, "a task").until == ("e",)


@pytest.mark.parametrize(
    ("generation", "cause"),
    [
        ({"max_gen_toks": "many"}, r"cannot be read \(invalid literal"),
        ({"temperature": [1]}, "cannot be read"),
        (
            {"do_sample": True, "temperature": 0.5, "top_p": 0.9},
            "has top_p=0.9; jtrace takes do_sample and temperature",
        ),
        ({"num_beams": 4}, "has num_beams=4"),
        ({"max_gen_toks": 0}, "give numbers and texts that can be"),
        ({"do_sample": True, "temperature": -1.0}, "give numbers and texts that can be"),
        ({"do_sample": True, "temperature": float("inf")}, "give numbers and texts that can be"),
        ({"until": [3]}, "give numbers and texts that can be"),
    ],
)
def test_what_jtrace_cannot_do_is_refused(generation, cause):
    with pytest.raises(InputError, match=f"^a task: generation_kwargs .*{cause}"):
        CompletionSettings.of(generation, None, "a task")


def test_the_tokeniser_s_end_of_text_ends_a_completion_beside_the_model_s(model):
    settings, end = CompletionSettings(("e",), 9, 0.5), model.tokenizer.eos_token_id
    assert model.stop == (end,)
    assert settings.sampling(model, 3) == Sampling(9, (end,), 0.5, 3)


def test_a_completion_has_ended_once_its_text_holds_what_ends_it(model):
    settings = CompletionSettings(("q1", "</s>"), 9, 0.0)
    ended = settings.has_ended(model)
    texts = model.encode(["a cat q", "a cat q1 and more"])
    assert [ended(tokens) for tokens in texts] == [False, True]
    assert [settings.text(model, tokens) for tokens in texts] == ["a cat q", "a cat "]


def test_tokens_alone_end_completions_of_no_other_text(model):
    """The end of text is a token of its own, which is looked for without decoding."""
    assert CompletionSettings(("</s>", ""), 9, 0.0).has_ended(model) is None
