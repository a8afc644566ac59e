"""A model in Python: activations, completions and log-probabilities."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jtrace
from jtrace import InputError
from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.data.tokenizer import encode
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.packing import pack
from jtrace.inference.residuals import extract_residuals
from jtrace.models.decoder import Decoder, Slots
from jtrace.models.reading import POOLINGS, SITES, Read

PROMPTS = ["ba be bi", "ba ."]


def test_activations_are_the_residuals_of_the_texts(place, model, data, acts):
    config, params = read_checkpoint(place / "chat", "float32")
    tokens = encode(model.language_model.tokenizer, data.texts)
    packed = pack(tokens, 64)
    expected = np.asarray(extract_residuals(params, config, packed, dtype="float32"))[:, packed.distinct]

    assert acts.shape == acts.values.shape == (3, 60, 24)
    np.testing.assert_allclose(acts.to_numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_site_is_pooled_as_a_plain_forward_of_each_text_alone_says(model, data, site, pooling):
    texts, words = list(data.texts[:6]), model.language_model
    read = model.activations(texts, site=site, pooling=pooling)
    decoder, params = Decoder(words.config, reads=(Read(site),)), {"params": words.params}
    forward = jax.jit(lambda slots: decoder.apply(params, slots, slots.positions).reads[Read(site)])
    for i, ids in enumerate(encode(words.tokenizer, texts)):
        at = jnp.arange(len(ids))[None]
        every = np.asarray(forward(Slots(jnp.asarray(ids)[None], at, jnp.full_like(at, len(ids)))), np.float64)[:, 0]
        expected = {"last": every[:, -1], "mean": every.mean(axis=1), "max": every.max(axis=1)}[pooling]
        np.testing.assert_allclose(read.to_numpy()[:, i], expected, rtol=1e-5, atol=1e-6)
    assert read.shape[2] == (words.config.heads * words.config.head_dim if site == "heads" else words.config.width)


def test_probes_are_fitted_to_any_site_and_their_untrained_baseline_is_read_alike(model, data):
    heads = model.activations(data, site="heads", pooling="mean", progress=False)
    probes = jtrace.fit_probes(heads, data, permutations=5, draws=50, progress=False)
    assert {"probe_accuracy", "gain_over_random_init"} <= set(probes.table["metric"])
    assert probes.directions.shape == (3, heads.shape[2])
    assert "heads mean" in repr(heads)


@pytest.mark.parametrize("site", ["attn", "mlp", "heads"])
def test_a_vector_is_added_to_the_site_that_it_was_made_of(model, data, site, tmp_path):
    vector = jtrace.steering_vector(model.activations(data, site=site, progress=False), data)
    choices = [("ba be bi", [" ba", " be"])]
    plain = model.score(choices, progress=False)[0]
    np.testing.assert_array_equal((-1 * (-vector)).values, vector.values)
    none, there, back = model.score(choices, steer=vector.at(layer=1, strength=[0.0, 4.0, -4.0]), progress=False)
    np.testing.assert_array_equal(none[0], plain)
    assert not np.allclose(there[0], plain)
    the_other_way = model.score(choices, steer=(-vector).at(1, [0.0, 4.0, 1.0]), progress=False)[1]
    np.testing.assert_array_equal(the_other_way[0], back[0])
    with pytest.raises(InputError, match=f"a vector of the site '{site}' has no file format"):
        vector.save(tmp_path / "vector.npz")
    with pytest.raises(InputError, match=f"vectors of the sites '{site}' and 'resid' have no sum"):
        vector + jtrace.steering_vector(model.activations(data, progress=False), data)


@pytest.mark.parametrize(
    "wrong", [{"site": "head"}, {"site": "q"}, {"pooling": "all"}, {"pooling": ""}, {"site": None}]
)
def test_a_site_or_pooling_that_does_not_exist_is_refused_with_those_that_do(model, wrong):
    with pytest.raises(InputError, match="there are resid, attn, mlp, heads, and last, mean, max"):
        model.activations(PROMPTS, **wrong)


def test_texts_alone_are_enough(model, data, acts):
    some = model.activations(list(data.texts[:5]), layers=[2, 0])

    assert some.layers == (2, 0)
    np.testing.assert_allclose(some.to_numpy(), acts.to_numpy()[[2, 0], :5], rtol=1e-5, atol=1e-6)


def test_a_model_of_some_layers_loads_no_more_than_it_needs(place, data, acts):
    model = jtrace.load_model(place / "chat", layers=1)
    first = model.activations(data)

    assert model.language_model.config.depth == 2
    np.testing.assert_allclose(first.to_numpy()[0], acts.to_numpy()[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="loaded without its last layers"):
        model.generate(PROMPTS)


def test_completions_are_those_of_the_sweep_s_generation(model):
    lm = model.language_model
    ids = lm.encode(PROMPTS)
    made = dict(generate(lm.params, lm.config, ids, Sampling(6, lm.stop), dtype=lm.dtype))

    assert model.generate(PROMPTS, max_new_tokens=6) == lm.decode([made[0][0], made[1][0]])


@pytest.mark.slow
def test_a_vector_changes_what_it_says_and_strength_zero_does_not(model, data, acts):
    vector = jtrace.steering_vector(acts, data)
    plain = model.generate(PROMPTS, max_new_tokens=6)
    several = model.generate(PROMPTS, steer=vector.at(layer=[0, 1], strength=[0, 8.0]), max_new_tokens=6)

    assert len(several) == 4
    assert several[0] == several[2] == plain
    assert several[3] == model.generate(PROMPTS, steer=vector.at(layer=1, strength=8.0), max_new_tokens=6) != plain


def test_log_probabilities_are_of_the_continuation_alone(model):
    (alone,) = model.score([("ba be", [" bi", " bo"])])
    (longer,) = model.score([("ba be", [" bi bo"])])
    (rest,) = model.score([("ba be bi", [" bo"])])

    assert alone.dtype == np.float64
    assert longer[0] == pytest.approx(alone[0] + rest[0], abs=1e-4)


def test_log_probabilities_have_an_entry_for_each_condition(model, data, acts):
    vector = jtrace.steering_vector(acts, data)
    choices = [("ba be", [" bi", " bo"]), ("ba", [" be"])]
    plain = model.score(choices)
    several = model.score(choices, steer=vector.at(layer=1, strength=[0.0, 2.0]))

    assert [len(one) for one in several] == [2, 2]
    np.testing.assert_array_equal(several[0][0], plain[0])
    assert not np.allclose(several[1][0], plain[0])


TEMPLATE = "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }} {% endfor %}"


@pytest.fixture(scope="session")
def talking(place):
    """The model with a chat template that ends with `be` where the assistant is to speak."""
    folder = shutil.copytree(place / "chat", place / "talking")
    path = folder / "tokenizer_config.json"
    template = TEMPLATE + "{% if add_generation_prompt %}be{% endif %}"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return folder


def chat(text, *more):
    return [{"role": "user", "content": text}, *more]


@pytest.mark.slow
def test_of_a_conversation_the_last_token_of_the_template_is_read(talking):
    model = jtrace.load_model(talking)
    said = model.activations([chat("ba bi"), chat("ba bi", {"role": "assistant", "content": "bo"})])
    written = model.activations(["u ba bi be", "u ba bi a bo"])

    np.testing.assert_allclose(said.to_numpy(), written.to_numpy(), rtol=1e-5, atol=1e-6)
    assert model.generate([chat("ba bi")], max_new_tokens=4) == model.generate(["u ba bi be"], max_new_tokens=4)


@pytest.mark.slow
def test_conversations_can_be_probed(talking):
    model = jtrace.load_model(talking)
    words = ["ba", "be", "bi", "bo", "bu", "da", "de", "di", "do", "du", "fa", "fe"]
    data = jtrace.Statements([chat(f"{one} {two}") for one in words for two in words[:4]], [0, 1, 1, 0] * 12)

    assert jtrace.fit_probes(model.activations(data), data, "paper", progress=False).table["n"].min() > 0


def looping(folder, template):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return jtrace.load_model(folder)


def test_a_template_that_reaches_for_attributes_is_refused(talking, tmp_path):
    model = looping(shutil.copytree(talking, tmp_path / "sly"), "{{ messages.__class__.__mro__ }}")
    with pytest.raises(InputError, match=r"^statement 0: the chat template of sly refuses it \(.*unsafe"):
        model.activations([chat("ba")])


BAD = [
    (lambda m, v: m.activations([]), "give a list of texts, one at least"),
    (lambda m, v: m.activations("ba"), "give a list of texts, one at least"),
    (lambda m, v: m.activations(["ba", " "]), "statement 1: the text is empty"),
    (lambda m, v: m.activations(["ba", 3]), "statement 0: 'ba' is no list of messages; give all texts"),
    (lambda m, v: m.activations([chat("ba")]), "statement 0: is a conversation, but the tokeniser of chat has no chat"),
    (lambda m, v: m.activations(["ba"], layers=7), r"layers=\[7\]: chat is loaded with layers 0 to 2"),
    (lambda m, v: m.activations(["ba"], position="mean"), "position='mean': residuals are read at the last token"),
    (lambda m, v: m.activations(["ba " * 600]), "statement 0: 600 tokens, longer than the model's context of 512"),
    (lambda m, v: m.generate(["ba"], max_new_tokens=0), "max_new_tokens=0"),
    (lambda m, v: m.generate(["ba " * 511], max_new_tokens=9), "prompt 0: 511 tokens and 9 new ones are longer"),
    (lambda m, v: m.score([("ba", "be")]), "choice 0: give a context and a list of continuations"),
    (lambda m, v: m.score([("ba", [])]), "choice 0: give a context and a list of continuations"),
    (lambda m, v: v.at(layer=9), "have no layer 9; they have 0-2"),
    (lambda m, v: v.at(layer=1, strength=float("nan")), "a strength of nan is not a number to steer with"),
    (lambda m, v: v.at(layer=1, positions="first"), "positions='first'"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_arguments_are_named(model, data, acts, call, message):
    vector = jtrace.steering_vector(acts, data)
    with pytest.raises(InputError, match=message) as caught:
        call(model, vector)
    assert "--" not in str(caught.value)


def test_a_vector_of_another_width_is_refused(model):
    vector = jtrace.SteeringVector(np.ones((3, 16), np.float32), (0, 1, 2), "other", "mine")
    with pytest.raises(InputError, match="a vector of width 16; chat has width 24"):
        model.generate(PROMPTS, steer=vector.at(layer=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": "nowhere"}, "^checkpoint: 'nowhere' is neither a folder nor"),
        ({"dtype": "float64"}, "dtype='float64': there are auto, float32 and bfloat16"),
        ({"layers": [1, 40]}, "^layers asks for 40; chat has layers 0 to 2"),
        ({"tokenizer": "nowhere"}, "^nowhere: no tokeniser files"),
    ],
)
def test_what_cannot_be_loaded_is_said_without_flags(place, arguments, message):
    with pytest.raises(InputError, match=message):
        jtrace.load_model(**{"checkpoint": place / "chat"} | arguments)


def test_it_says_what_it_is(model, acts):
    assert repr(model) == "Model('chat': llama, 3 layers, width 24, float32)"
    assert repr(acts) == "Activations('mine' of chat: 3 layers, 60 statements, width 24)"


def test_a_conversation_is_not_read_with_special_tokens_as_text(talking):
    model = jtrace.load_model(talking, special_tokens="text")
    with pytest.raises(InputError, match="statement 0: is a conversation, whose template writes special tokens"):
        model.activations([chat("ba")])
