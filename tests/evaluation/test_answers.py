"""What a task's items become as tokens, and that answers are kept as soon as they are there."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jtrace.checkpoints.load import load_params
from jtrace.errors import InputError
from jtrace.evaluation import answers as evaluation_answers
from jtrace.evaluation.answers import Decoding, ask, check_lengths, choice_pairs
from jtrace.evaluation.perplexity import parts
from jtrace.evaluation.task import Choice, Completion, Likelihood, Prompt, Task, Text
from jtrace.inference import generate
from jtrace.inference.generate import Sampling
from jtrace.inference.language_model import LanguageModel
from jtrace.inference.score import score
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.conftest import GOLDENS, letter_tokenizer

VECTOR = SteeringVector(np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32), (0, 1, 2), "step1", "mine")
EDIT = edit_of(VECTOR, [Condition((1,), -2.0), Condition((1,), 2.0)])


def merging_tokenizer():
    """Letters and a blank, and tokens of two: `ab`, and a blank with `a`."""
    pieces = ["a", "b", "x", " ", "ab", " a"]
    model = models.BPE({piece: i for i, piece in enumerate(pieces)}, [("a", "b"), (" ", "a")])
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny Llama of one token per letter and a context of 128 of them."""
    folder = tmp_path_factory.mktemp("letters")
    letter_tokenizer(folder)
    config, params = load_params(GOLDENS / "llama-full", jnp.float32)
    return LanguageModel("tiny", "llama", config, params, jnp.float32, AutoTokenizer.from_pretrained(folder), ())


@pytest.fixture(scope="module")
def merging(model):
    return LanguageModel("tiny", "llama", model.config, model.params, jnp.float32, merging_tokenizer(), ())


def task_of(*items, new=0):
    return Task("mine", ("paper",), items, lambda answers: {}, main="accuracy", max_new_tokens=new)


def pieces(model, context, *continuations):
    """Context and continuation of each pair, as the tokens' texts."""
    item = Choice(0, context, continuations)
    pairs = choice_pairs(model, task_of(item), [item])
    return [tuple(model.tokenizer.convert_ids_to_tokens(ids) for ids in pair) for pair in pairs]


def test_context_and_continuations_are_the_tokens_of_one_text(model):
    assert pieces(model, "ab", " c", "d") == [(["a", "b"], [" ", "c"]), (["a", "b"], ["d"])]


def test_a_blank_at_the_context_s_end_moves_to_the_continuation(model, merging):
    assert pieces(model, "ab ", "c") == [(["a", "b"], [" ", "c"])]
    # There it may become part of a token; as the context's own it would be one that no text has before an `a`.
    assert pieces(merging, "x ", "a", "b") == [(["x"], [" a"]), (["x"], [" ", "b"])]
    assert pieces(merging, "x", " a", " b") == pieces(merging, "x ", "a", "b")


def test_a_token_across_the_border_is_scored_whole(merging):
    assert pieces(merging, "xa", "b", "x") == [(["x"], ["ab"]), (["x"], ["a", "x"])]


def test_the_first_token_is_never_scored_as_nothing_predicts_it(merging):
    assert pieces(merging, "a", "bx") == [(["ab"], ["x"])]


@pytest.mark.parametrize(
    ("context", "continuation", "what"),
    [("a", "b", "one token of context"), ("", "a", "one token of context"), ("", "", "no token of this prompt")],
)
def test_a_choice_of_fewer_than_two_tokens_is_refused(merging, context, continuation, what):
    item = Choice(3, context, (continuation,))
    with pytest.raises(InputError, match=f"mine, row 3: the tokeniser of tiny makes {what}"):
        choice_pairs(merging, task_of(item), [item])


def test_choices_are_answered_by_the_log_probability_of_each_continuation(model):
    items = Choice(0, "which one", (" this", " that one", " no")), Choice(1, "or", (" not", " yes"))
    answers = ask(model, task_of(*items), EDIT, (0, 2), Decoding("all"))
    assert [[len(scores) for scores in row] for row in answers] == [[3, 2]] * 2
    pairs = choice_pairs(model, task_of(*items), items)
    expected = score(model.params, model.config, pairs, EDIT, conditions=(0, 2), positions="all")
    np.testing.assert_array_equal([np.concatenate(row) for row in answers], expected)
    assert abs(expected[0] - expected[1]).min() > 1e-3


TOO_LONG = "a" * 129


@pytest.mark.parametrize(
    ("task", "what"),
    [
        (task_of(Choice(4, "ab", (" c", TOO_LONG))), "131 tokens"),
        (task_of(Choice(4, TOO_LONG, (" c",))), "131 tokens"),
        (task_of(Prompt(1, "ab"), Prompt(4, TOO_LONG), new=1), "129 tokens and 1 new ones"),
        (task_of(Prompt(4, "a" * 120), new=9), "120 tokens and 9 new ones"),
    ],
)
def test_what_is_longer_than_the_context_is_refused(model, task, what):
    with pytest.raises(InputError) as caught:
        ask(model, task, None, (0,), Decoding())
    assert str(caught.value) == (
        f"mine, row 4: {what} are longer than the context of tiny, 128; shorten it, or ask for fewer examples or new "
        "tokens"
    )


def test_what_fills_the_context_exactly_is_asked(model):
    ((scores,),) = ask(model, task_of(Choice(0, "a" * 127, ("b",))), None, (0,), Decoding())
    assert np.isfinite(scores).all()


def test_a_prompt_of_no_token_is_refused(model):
    with pytest.raises(InputError, match="mine, row 7: the tokeniser of tiny makes no token of this prompt"):
        ask(model, task_of(Prompt(7, ""), new=4), None, (0,), Decoding())


PROMPTS = task_of(*(Prompt(10 * i, text) for i, text in enumerate(("abc", "a", "which", "the other one"))), new=6)


class StoppedError(Exception):
    pass


@pytest.fixture
def one_by_one(monkeypatch):
    """One prompt under three conditions at a time."""
    monkeypatch.setitem(generate.BATCH_TOKENS, "cpu", 3)


def asked(model, how, kept=None, keep=None):
    return ask(model, PROMPTS, EDIT, (0, 1, 2), how, kept=kept, keep=keep)


def test_completions_come_by_condition_in_the_order_of_the_task(model):
    told = {}
    answers = asked(model, Decoding(), keep=told.__setitem__)
    assert sorted(told) == [0, 1, 2, 3]
    for condition, row in enumerate(answers):
        for i, completion in enumerate(row):
            ids = told[i][condition]
            assert completion == Completion(model.decode([ids])[0], model.decode([ids[:-1]])[0])


def test_each_completion_is_kept_before_the_next_is_made_and_none_is_made_again(model, one_by_one):
    """Though the noise depends on a prompt's number: it is its place in the task, whatever is missing."""
    how, whole = Decoding("all", temperature=1.5, seed=2), {}
    answers = asked(model, how, keep=whole.__setitem__)
    kept = {}

    def keep(i, completions):
        kept[i] = completions
        if len(kept) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        asked(model, how, keep=keep)
    assert len(kept) == 2
    told = {}
    assert asked(model, how, kept=kept, keep=told.__setitem__) == answers
    assert sorted([*kept, *told]) == [0, 1, 2, 3]
    for i, completions in (kept | told).items():
        for one, other in zip(completions, whole[i], strict=True):
            np.testing.assert_array_equal(one, other)


def test_where_all_are_kept_the_model_is_not_asked(model, monkeypatch):
    monkeypatch.setattr(generate, "_decode", None)
    kept = {i: [np.array([i, condition], np.int32) for condition in range(3)] for i in range(4)}
    answers = asked(model, Decoding(), kept=kept)
    assert answers[2][1] == Completion("b c", "b")


def test_no_text_is_counted_twice_or_left_out_and_short_ones_say_nothing(model, monkeypatch):
    monkeypatch.setattr(evaluation_answers, "WINDOW", 8)
    texts = ["abcdefg", "hello there you", "a", "", "and another one that is longer"]
    task = task_of(*(Text(i, text) for i, text in enumerate(texts)))
    (plain, steered) = ask(model, task, EDIT, (0, 1), Decoding())
    assert [answer.tokens for answer in plain] == [max(0, len(text) - 1) for text in texts]
    assert plain[2] == plain[3] == Likelihood(0.0, 0)
    # A text that fits a window is one of a single token's context.
    ids = np.array(model.tokenizer(texts[0])["input_ids"], np.int32)
    expected = -score(model.params, model.config, [(ids[:1], ids[1:])], EDIT, conditions=(0, 1))[:, 0]
    assert [plain[0].nats, steered[0].nats] == pytest.approx(expected, rel=1e-5)


def test_parts_of_a_document_are_predicted_as_the_whole_is(model, monkeypatch):
    """In pieces, each part's first tokens would have nothing before them, and the first none to be predicted by."""
    monkeypatch.setattr(evaluation_answers, "WINDOW", 8)
    text = "the other one is longer than this one and so is that"
    whole, cut = task_of(Text(0, text), Text(1, "abc")), task_of(*parts(text, 10), Text(1, "abc"))
    for one, several in zip(
        ask(model, whole, EDIT, (0, 1), Decoding()), ask(model, cut, EDIT, (0, 1), Decoding()), strict=True
    ):
        *of_parts, other = several
        assert len(of_parts) == 6
        assert all(part.tokens > 0 for part in of_parts[:-1])
        assert sum(part.tokens for part in of_parts) == one[0].tokens == len(text) - 1
        assert sum(part.nats for part in of_parts) == pytest.approx(one[0].nats, rel=1e-6)
        assert other == pytest.approx(one[1], rel=1e-6)


def test_texts_that_are_all_too_short_say_nothing(model):
    ((one, two),) = ask(model, task_of(Text(0, "a"), Text(1, "")), None, (0,), Decoding())
    assert one == two == Likelihood(0.0, 0)


def test_windows_are_no_wider_than_the_context(model):
    ((answer,),) = ask(model, task_of(Text(0, "ab" * 150)), None, (0,), Decoding())
    assert answer.tokens == 299
    assert np.isfinite(answer.nats)


BEYOND = (Choice(0, "a", ("b", "~")), Prompt(0, "a~"), Text(0, "a~"))


@pytest.mark.parametrize("item", BEYOND, ids=lambda item: type(item).__name__)
def test_a_token_without_an_embedding_is_refused_before_anything_is_computed(model, item):
    """JAX would read the last row of the embedding for it."""
    larger = model_with(model, "~", 61)
    for entrance in (check_lengths, lambda model, task: ask(model, task, None, [0], Decoding())):
        with pytest.raises(InputError, match="tiny: the tokeniser gives token 61, the model knows 61 only"):
            entrance(larger, task_of(item, new=1))


def test_token_ids_without_an_embedding_are_refused(model):
    within, beyond = np.array([1], np.int32), np.array([61], np.int32)
    with pytest.raises(InputError, match="the model knows 61 only"):
        score(model.params, model.config, [(within, beyond)])
    with pytest.raises(InputError, match="the model knows 61 only"):
        next(generate.generate(model.params, model.config, [within, beyond], Sampling(1)))
    with pytest.raises(InputError, match="the model knows 61 only"):
        model_with(model, "~", 61).complete(["a~"], 1)


def model_with(model, letter, token):
    letters = model.tokenizer.get_vocab() | {letter: token}
    return replace(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(letters, []))))


@pytest.mark.slow
def test_tokens_that_the_tokeniser_appends_are_neither_scored_nor_continued(merging):
    """As with add_eos_token: `</s>` behind every text."""
    tokenizer = Tokenizer.from_str(merging.tokenizer.backend_tokenizer.to_str())
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 6)])
    appending = replace(merging, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    task = task_of(Prompt(0, "xa"), new=2)
    assert pieces(appending, "xa", "b", " a") == pieces(merging, "xa", "b", " a")
    for item in (task.items[0], Choice(0, "xa", ("b", " a")), Text(0, "xabxab")):
        of = replace(task, items=(item,))
        (found,), (expected,) = (ask(words, of, None, [0], Decoding()) for words in (appending, merging))
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
