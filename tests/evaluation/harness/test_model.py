"""jtrace's decoder as lm-eval asks it: tokens, log-likelihoods, windows, completions, conversations."""

import jax.numpy as jnp
import numpy as np
import pytest
from lm_eval.api.instance import Instance

from jtrace.errors import InputError
from jtrace.evaluation.harness.model import HarnessModel
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.language_model import load_language_model
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.plain import log_probabilities
from tests.tiny_harness import write_model

ROWS = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)
EDIT = edit_of(SteeringVector(ROWS, (0, 1, 2), "step1", "mine"), [Condition((1,), 2.0)])
PAIRS = [("a cat ", "sat"), ("a cat", " on a mat"), ("two dogs", ".")]
# It knows no message of the system, and refuses to speak of dogs.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' or 'dog' in m.content %}{{ raise_exception('not so') }}{% endif %}"
    "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}bot:{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose tokeniser puts <s> before a text."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny", begins=True)


@pytest.fixture(scope="module")
def model(folder):
    return load_language_model(folder, "tiny", jnp.float32)


@pytest.fixture
def another(folder):
    """A model to be changed."""
    return load_language_model(folder, "tiny", jnp.float32)


def requests(kind, *arguments):
    return [Instance(kind, {}, each, at) for at, each in enumerate(arguments)]


def plain_log_likelihood(model, before, after, condition=0):
    """A continuation's log-probability in nats, without packing; steered from the context's last token on."""
    text = np.array([*before, *after])
    table = log_probabilities(model.params, model.config, [text], EDIT, condition, [len(before) - 1])[0]
    return table[len(before) - 1 + np.arange(len(after)), after].sum()


def test_texts_become_tokens_as_in_lm_eval_s_own_model(model):
    asked = HarnessModel(model)
    begins = model.tokenizer.bos_token_id
    ids = asked.tok_encode("a cat")
    assert ids == [begins, *model.tokenizer.encode("a cat", add_special_tokens=False)]
    assert asked.tok_encode("a cat", add_special_tokens=False) == ids[1:]
    assert HarnessModel(model, add_bos_token=False).tok_encode("a cat") == ids[1:]
    assert (asked.eot_token_id, asked.prefix_token_id) == (model.tokenizer.eos_token_id, begins)
    assert HarnessModel(model, prefix_token_id=7).prefix_token_id == 7
    assert "/" not in asked.tokenizer_name


def test_a_text_that_begins_as_texts_do_is_given_no_second_beginning(another):
    another.tokenizer.bos_token = another.tokenizer.eos_token = "a"
    asked = HarnessModel(another)
    assert asked.tok_encode("a cat") == another.tokenizer.encode("a cat", add_special_tokens=False)
    assert asked.tok_encode("cat") == another.tokenizer.encode("cat")


def test_a_tokeniser_that_names_no_such_token_is_told_where_one_is_needed(another):
    another.tokenizer.bos_token = another.tokenizer.eos_token = None
    asked = HarnessModel(another)
    assert asked.tok_encode("cat") == another.tokenizer.encode("cat")
    with pytest.raises(
        InputError, match=r"tiny: the tokeniser has no token that begins or ends a text.*prefix_token_id"
    ):
        _ = asked.prefix_token_id
    assert asked.settings({"until": ["e"]}).until == ("e",)


@pytest.mark.parametrize("length", [0, 257])
def test_a_length_that_the_context_does_not_hold_is_refused(model, length):
    with pytest.raises(InputError, match=f"max_length={length}: the context of tiny is 256"):
        HarnessModel(model, max_length=length)


def test_log_likelihoods_under_a_condition_are_those_of_a_plain_forward(model):
    asked = HarnessModel(model, EDIT, [1, 0])
    both = asked.loglikelihoods(requests("loglikelihood", *PAIRS))
    for (context, continuation), conditions in zip(PAIRS, both, strict=True):
        before, after = asked._encode_pair(context, continuation)
        expected = [plain_log_likelihood(model, before, after, condition) for condition in (1, 0)]
        assert [likelihood for likelihood, _ in conditions] == pytest.approx(expected, rel=1e-5)
        assert abs(expected[0] - expected[1]) > 0.1
    # lm-eval itself sees the first condition.
    assert asked.loglikelihood(requests("loglikelihood", *PAIRS)) == [conditions[0] for conditions in both]


def test_a_continuation_is_greedy_where_it_is_what_the_model_says(model):
    asked = HarnessModel(model)
    context = asked.tok_encode("a cat")
    ((_, made),) = generate(model.params, model.config, [np.array(context, np.int32)], Sampling(3, ()))
    said = made[0].tolist()
    other = [*said[:2], (said[2] + 1) % 50]
    scored = asked._loglikelihood_tokens([(None, context, after) for after in (said, other)])
    assert [greedy for ((_, greedy),) in scored] == [True, False]


def test_of_a_context_that_is_too_long_the_end_is_read(model):
    asked = HarnessModel(model, max_length=6)
    ids = asked.tok_encode("the cat sat on a mat")
    (((likelihood, _),),) = asked._loglikelihood_tokens([(None, ids[:-2], ids[-2:])])
    assert likelihood == pytest.approx(plain_log_likelihood(model, ids[-7:-2], ids[-2:]), rel=1e-5)


@pytest.mark.parametrize("count", [0, 7])
def test_continuations_of_no_token_or_too_many_are_refused(model, count):
    with pytest.raises(InputError, match=f"tiny: a continuation of {count} tokens; lm-eval scores 1 to 6"):
        HarnessModel(model, max_length=6)._loglikelihood_tokens([(None, [1, 2], [3] * count)])


def test_a_text_that_fits_is_scored_behind_its_first_token(model):
    asked, text = HarnessModel(model, EDIT, [0, 1]), "the cat sat"
    ids = asked.tok_encode(text)
    expected = [plain_log_likelihood(model, [asked.prefix_token_id], ids, condition) for condition in (0, 1)]
    assert asked.rolling_loglikelihoods(requests("loglikelihood_rolling", (text,)))[0] == pytest.approx(
        expected, rel=1e-5
    )
    assert asked.loglikelihood_rolling(requests("loglikelihood_rolling", (text,))) == pytest.approx(expected[:1])


def test_a_longer_text_is_the_sum_of_its_windows_behind_one_token_each(model):
    """Each token is scored once: twelve here, of which windows of five hold the first five, the next five, the rest."""
    asked = HarnessModel(model, max_length=5, add_bos_token=False)
    texts = ["a mat and a ", "sat"]
    ids = asked.tok_encode(texts[0])
    assert len(ids) == 12
    # The last window is filled up with earlier tokens, as its context.
    windows = [([asked.prefix_token_id], ids[:5]), (ids[4:5], ids[5:10]), (ids[6:10], ids[10:])]
    expected = sum(plain_log_likelihood(model, *window) for window in windows)
    short = plain_log_likelihood(model, [asked.prefix_token_id], asked.tok_encode(texts[1]))
    both = asked.loglikelihood_rolling(requests("loglikelihood_rolling", *[(text,) for text in texts]))
    assert both == pytest.approx([expected, short], rel=1e-5)


def test_completions_of_unlike_settings_are_in_the_order_of_the_requests(model):
    """lm-eval hands requests of several tasks together, of which each ends completions in its own way."""
    asked = HarnessModel(model)
    settings = [{"until": ["e"], "max_gen_toks": 6}, {"until": ["q1"], "max_gen_toks": 3}]
    contexts = ["a cat", "two dogs", "an old house"]
    arguments = [(context, dict(settings[at % 2])) for at, context in enumerate(contexts)]
    alone = [asked.generate_until(requests("generate_until", each))[0] for each in arguments]
    assert asked.generate_until(requests("generate_until", *arguments)) == alone
    for text, (context, about) in zip(alone, arguments, strict=True):
        ids = np.array(asked.tok_encode(context), np.int32)
        ((_, made),) = generate(model.params, model.config, [ids], Sampling(about["max_gen_toks"], model.stop))
        assert text == model.decode(made)[0].partition(about["until"][0])[0]


def test_completions_are_told_as_they_come(model):
    asked, kept = HarnessModel(model), {}
    settings = asked.settings({"until": ["e"], "max_gen_toks": 3})
    made = asked.completions(["a cat", "two dogs"], settings, numbers=[7, 4], keep=kept.__setitem__)
    assert sorted(made) == [4, 7]
    assert all(kept[number] is tokens for number, tokens in made.items())


def test_a_prompt_without_tokens_is_refused(model):
    asked = HarnessModel(model, add_bos_token=False)
    with pytest.raises(InputError, match="tiny: the tokeniser makes no token of the prompt ''"):
        asked.generate_until(requests("generate_until", ("", {"until": ["e"], "max_gen_toks": 3})))


def test_a_conversation_is_written_with_the_model_s_own_template(another):
    another.tokenizer.chat_template = TEMPLATE
    asked, turns = HarnessModel(another), [{"role": "user", "content": "why? "}]
    try:
        assert asked.apply_chat_template(turns) == "user: why? \nbot:"
        # Without a prompt it ends within the last message, which lm-eval lets the model go on with.
        assert asked.apply_chat_template(turns, add_generation_prompt=False) == "user: why?"
        system = {"role": "system", "content": "be brief"}
        assert asked.apply_chat_template([system, *turns]) == "user: why? \nbot:"
        for refused in ([{"role": "user", "content": "dogs"}], [system, {"role": "user", "content": "dogs"}]):
            with pytest.raises(InputError, match=r"tiny: the chat template refuses a conversation \(.*not so"):
                asked.apply_chat_template(refused)
    finally:
        asked._template.close()


def test_without_a_template_there_are_no_conversations(model):
    with pytest.raises(InputError, match="tiny: the tokeniser has no chat template; leave --apply_chat_template out"):
        HarnessModel(model).apply_chat_template([{"role": "user", "content": "why?"}])
