"""Streaming: the tokens of `generate`, whatever is kept from answers before, and few compilations."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.errors import InputError
from jtrace.inference import stream as inference_stream
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.stream import CHUNK, TokenStream
from jtrace.steering.vector import OPERATORS, Condition, SteeringVector, edit_of
from tests.conftest import GOLDENS
from tests.goldens.variants import COVERING

VOCABULARY, WIDTH = 61, 24
# Windows, parallel blocks, norms behind.
SOME = ("mistral-window", "gpt_neox-rope-linear", "olmo3-yarn")
GREEDY, NOISY = Sampling(9), Sampling(9, temperature=1.5, seed=3)


def edit(depth, *conditions, seed=0, how="add"):
    values = np.random.default_rng(seed).normal(size=(depth, WIDTH)).astype(np.float32)
    return edit_of(SteeringVector(values, tuple(range(depth)), "step1", "mine"), conditions, how)


def some(count, seed=0):
    return np.random.default_rng((count, seed)).integers(0, VOCABULARY, count).astype(np.int32)


@pytest.fixture(scope="module")
def llama():
    config, params = load_params(GOLDENS / "llama-full", jnp.float32)
    return params, config


EDIT = edit(3, Condition((1,), 2.0), Condition((0, 2), -1.0))


def streamed(stream, prompt, *others, **named):
    """Each condition's completion, as a list."""
    pieces = list(stream.answer(prompt, *others, **named))
    assert all(len(tokens) <= CHUNK for piece in pieces for tokens in piece)
    return [np.concatenate(tokens).tolist() for tokens in zip(*pieces, strict=True)]


def generated(model, prompt, edit=None, conditions=(0,), sampling=GREEDY, positions="last", number=0):
    (found,) = generate(
        *model, [prompt], sampling, edit, conditions=conditions, positions=positions, numbers=[number]
    )  # fmt: skip
    return [tokens.tolist() for tokens in found[1]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=() if name in SOME else pytest.mark.long) for name in COVERING]
)
def test_every_family_says_what_generate_says(family):
    config, params = load_params(GOLDENS / family, jnp.float32)
    steering = edit(config.depth, Condition((1,), 3.0))
    stream, prompt = TokenStream(params, config, GREEDY), some(23)
    for _ in range(2):
        steered, plain = expected = generated((params, config), prompt, steering, (1, 0))
        assert streamed(stream, prompt, steering, (1, 0)) == expected
        assert steered != plain
        prompt = np.concatenate([prompt, steered, some(4)])  # the conversation goes on


@pytest.mark.parametrize(
    ("positions", "sampling"),
    [
        pytest.param("last", GREEDY, id="last-greedy", marks=pytest.mark.long),
        pytest.param("all", NOISY, id="all-sampled"),
        pytest.param("generated", GREEDY, id="generated-greedy", marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_what_is_kept_changes_nothing(llama, positions, sampling):
    """A conversation whose strength, layer, vector and conditions change on the way, and which is forgotten once."""
    stream, prompt = TokenStream(*llama, sampling, positions), some(19)
    turns = [
        (EDIT, [1]),
        (EDIT, [1]),
        (edit(3, Condition((1,), -4.0), Condition((2,), 3.0)), [1]),
        (EDIT, [2, 0]),
        (EDIT, [0]),
        (edit(3, Condition((1,), 2.0), Condition((1,), 1.0), seed=1), [0, 1]),
        (edit(3, Condition((1,), 0.0), Condition((1,), 1.0)), [1]),
        (EDIT, [1]),
        None,
        (EDIT, [0, 1]),
    ]
    for number, turn in enumerate(turns):
        if turn is None:
            prompt = some(30)
            continue
        steering, conditions = turn
        expected = generated(llama, prompt, steering, (0, 1, 2), sampling, positions, number)
        chosen = [expected[at] for at in conditions]
        assert streamed(stream, prompt, steering, conditions, number=number) == chosen
        prompt = np.concatenate([prompt, chosen[0], some(3)])


def test_an_unsteered_conversation_computes_only_what_is_new(llama, monkeypatch):
    """With `all`, so does a steered one, as long as the vector stays."""
    computed, original = [], inference_stream._extend

    def counting(params, keys, held, tokens, *others, **named):
        computed.append(int(held))
        return original(params, keys, held, tokens, *others, **named)

    monkeypatch.setattr(inference_stream, "_extend", counting)
    for conditions, positions, begins in (((0,), "last", 38), ((1,), "all", 38), ((1,), "last", 29)):
        stream, prompt = TokenStream(*llama, GREEDY, positions), some(30)
        (answer,) = streamed(stream, prompt, EDIT, conditions)
        computed.clear()
        streamed(stream, np.concatenate([prompt, answer, some(5)]), EDIT, conditions)
        assert computed == [begins]


def test_an_answer_that_is_not_read_to_its_end_changes_nothing(llama):
    stream, prompt = TokenStream(*llama, GREEDY), some(40)
    for pieces in (1, 3):
        answer = stream.answer(prompt, EDIT, (1,))
        for _ in range(pieces):
            next(answer)
        answer.close()
        assert streamed(stream, prompt[:-3], EDIT, (1,)) == generated(llama, prompt[:-3], EDIT, (1,))


@pytest.mark.parametrize("length", [1, 18, *(pytest.param(length, marks=pytest.mark.slow) for length in (2, 17, 300))])
def test_prompts_of_any_length(llama, length):
    prompt = some(length)
    assert streamed(TokenStream(*llama, GREEDY), prompt, EDIT, (0, 1)) == generated(llama, prompt, EDIT, (0, 1))


def test_a_piece_at_the_end_of_the_room_is_computed_from_further_back(llama):
    """There is room for 512: a piece of 64 behind 459 tokens would end beyond."""
    stream, prompt = TokenStream(*llama, GREEDY), some(510)
    streamed(stream, prompt[:460], EDIT, (0, 1))
    anew = streamed(TokenStream(*llama, GREEDY), prompt, EDIT, (0, 1), most=2)
    assert streamed(stream, prompt, EDIT, (0, 1), most=2) == anew
    assert stream._kept.keys.k.shape[2] == 512


def test_a_completion_ends_with_its_first_stop_token_and_others_go_on(llama):
    prompt = some(11)
    plain, steered = generated(llama, prompt, EDIT, (0, 1))
    stop = next(token for token in steered if token not in plain)
    found = streamed(TokenStream(*llama, Sampling(9, (stop,))), prompt, EDIT, (0, 1))
    assert found == [plain, steered[: steered.index(stop) + 1]]


@pytest.mark.parametrize("most", [1, CHUNK, CHUNK + 1, 99])
def test_fewer_tokens_than_the_most(llama, most):
    prompt = some(11)
    expected = [tokens[:most] for tokens in generated(llama, prompt, EDIT, (0, 1))]
    assert streamed(TokenStream(*llama, GREEDY), prompt, EDIT, (0, 1), most=most) == expected


@pytest.mark.slow
def test_tokens_strengths_layers_and_vectors_compile_nothing_and_a_conversation_little(llama):
    stream, prompt = TokenStream(*llama, GREEDY), some(20)

    def compiled():
        return [f._cache_size() for f in (inference_stream._extend, inference_stream._decode)]

    streamed(stream, prompt, EDIT, (1, 0))
    streamed(stream, prompt[:9], EDIT, (1, 0))
    before = compiled()
    for seed, how in enumerate(OPERATORS):
        steering = edit(3, Condition((seed % 3,), 0.5 * seed), Condition((0, 1), -1.0), seed=seed, how=how)
        streamed(stream, some(20, seed), steering, (2, 0), number=seed)
    assert compiled() == before
    for length in range(30, 480, 45):
        streamed(stream, some(length), EDIT, (1, 0))
    extend, decode = (now - then for now, then in zip(compiled(), before, strict=True))
    assert extend <= 2  # the other widths
    assert decode == 0


def test_a_token_without_an_embedding_is_refused(llama):
    with pytest.raises(InputError, match="gives token 61, the model knows 61 only"):
        next(TokenStream(*llama, GREEDY).answer(np.array([1, 61], np.int32)))
