"""Generation: every token is the one the plain forward would choose, whatever is computed beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.inference import generate as inference_generate
from jtrace.inference.generate import Sampling, generate
from jtrace.models.intervention import POSITIONS, steered_from
from jtrace.steering.vector import OPERATORS, Condition, SteeringVector, edit_of
from tests.cases import few
from tests.conftest import GOLDENS
from tests.plain import log_probabilities

VOCABULARY, DEPTH, WIDTH = 61, 3, 24
random = np.random.default_rng(0)
VECTOR = SteeringVector(random.normal(size=(DEPTH, WIDTH)).astype(np.float32), (0, 1, 2), "step1", "mine")
ALPHAS = [Condition((1,), -2.0), Condition((1,), 2.0), Condition((0, 2), 1.0)]
EDIT = edit_of(VECTOR, ALPHAS)
STEM = random.integers(0, VOCABULARY, 6)
# Some share a beginning, one is a beginning of others, two are a single token.
PROMPTS = [
    np.concatenate([STEM[:shared], random.integers(0, VOCABULARY, own)]).astype(np.int32)
    for shared, own in ((0, 1), (6, 0), (6, 5), (3, 9), (6, 20), (0, 13), (1, 0))
]
GREEDY = Sampling(8)
NOISY = Sampling(8, temperature=1.5, seed=3)
every_position = pytest.mark.parametrize("positions", few(POSITIONS))
ways = pytest.mark.parametrize(
    ("positions", "sampling"),
    [
        pytest.param("last", GREEDY, id="last-greedy"),
        pytest.param("generated", GREEDY, id="generated-greedy", marks=pytest.mark.slow),
        pytest.param("all", NOISY, id="all-sampled", marks=pytest.mark.slow),
    ],
)


@pytest.fixture(scope="module")
def llama():
    config, params = load_params(GOLDENS / "llama-full", jnp.float32)
    return params, config


@pytest.fixture(scope="module")
def windowed():
    config, params = load_params(GOLDENS / "qwen3-window-grouped-tied", jnp.float32)
    return params, config


def completions(model, prompts=PROMPTS, sampling=GREEDY, edit=EDIT, **options):
    """By prompt and condition, as lists."""
    found = dict(generate(*model, prompts, sampling, edit, **options))
    return {number: [tokens.tolist() for tokens in of_prompt] for number, of_prompt in found.items()}


def assert_each_token_is_the_most_probable(model, positions):
    found = completions(model, positions=positions)
    assert sorted(found) == list(range(len(PROMPTS)))
    for condition in range(4):
        texts = [np.append(prompt, found[i][condition]) for i, prompt in enumerate(PROMPTS)]
        first = [steered_from(len(prompt), positions) for prompt in PROMPTS]
        expected = log_probabilities(*model, texts, EDIT, condition, first)
        for i, prompt in enumerate(PROMPTS):
            chosen = expected[i, len(prompt) - 1 : len(prompt) + 7].argmax(axis=-1)
            assert found[i][condition] == chosen.tolist()


@every_position
def test_each_token_is_the_most_probable_one_of_a_plain_forward(llama, positions):
    assert_each_token_is_the_most_probable(llama, positions)


@pytest.mark.parametrize("positions", ["last", "generated"])
@pytest.mark.slow
def test_sliding_windows_move_on_over_what_is_generated(windowed, positions):
    assert_each_token_is_the_most_probable(windowed, positions)


@every_position
@pytest.mark.parametrize("how", few(["add", "add_keep_norm", "project_out"], 2))
def test_strength_0_equals_the_unsteered_model(llama, how, positions):
    zero = edit_of(VECTOR, [Condition((0, 1, 2), 0.0)], how)
    found, plain = completions(llama, edit=zero, positions=positions), completions(llama, edit=None)
    for i in range(len(PROMPTS)):
        assert found[i] == plain[i] * 2


@ways
def test_a_strength_among_others_equals_the_strength_alone(llama, positions, sampling):
    together = completions(llama, sampling=sampling, positions=positions)
    assert any(len({str(tokens) for tokens in of_prompt}) > 1 for of_prompt in together.values())
    for at, alpha in enumerate(ALPHAS, 1):
        alone = completions(llama, sampling=sampling, edit=edit_of(VECTOR, [alpha]), positions=positions)
        for i in range(len(PROMPTS)):
            assert alone[i] == [together[i][0], together[i][at]]


@ways
def test_other_strengths_beside_it_change_nothing(llama, positions, sampling):
    others = edit_of(VECTOR, [Condition((2,), 9.0), ALPHAS[1], Condition((0, 1), -5.0)])
    together = completions(llama, sampling=sampling, positions=positions)
    found = completions(llama, sampling=sampling, positions=positions, edit=others)
    for i in range(len(PROMPTS)):
        assert [found[i][0], found[i][2]] == [together[i][0], together[i][2]]


def test_some_conditions_come_in_the_order_asked_for(llama):
    together, chosen = completions(llama), completions(llama, conditions=(3, 0, 2))
    assert all(chosen[i] == [together[i][at] for at in (3, 0, 2)] for i in together)


@pytest.mark.parametrize(("positions", "sampling", "batch_tokens"), few([("last", GREEDY, 9), ("all", NOISY, 1)]))
def test_how_prompts_are_batched_changes_nothing(llama, positions, sampling, batch_tokens):
    whole = completions(llama, sampling=sampling, positions=positions)
    assert completions(llama, sampling=sampling, positions=positions, batch_tokens=batch_tokens) == whole


@ways
def test_the_order_of_prompts_changes_nothing(llama, positions, sampling):
    whole, order = completions(llama, sampling=sampling, positions=positions), [4, 0, 6, 2, 5, 3, 1]
    shuffled = [PROMPTS[i] for i in order]
    assert completions(llama, shuffled, sampling, numbers=order, positions=positions) == whole


@pytest.mark.slow
def test_prompts_that_are_left_out_change_nothing_and_one_given_twice_is_drawn_twice(llama):
    whole = completions(llama, sampling=NOISY, positions="all")
    some = [PROMPTS[i] for i in (4, 2, 4)]
    found = completions(llama, some, NOISY, numbers=[4, 2, 9], positions="all")
    assert {i: found[i] for i in (2, 4)} == {i: whole[i] for i in (2, 4)}
    assert found[9] != found[4]  # another number has other noise


def test_no_prompts_no_completions(llama):
    assert completions(llama, []) == {}


def test_single_tokens_alone_are_continued(llama):
    whole = completions(llama)
    assert completions(llama, [PROMPTS[0], PROMPTS[6]], numbers=[0, 6]) == {i: whole[i] for i in (0, 6)}


def test_a_completion_ends_with_its_first_stop_token_and_others_go_on(llama):
    whole = completions(llama)
    stop = (whole[2][1][3], whole[5][2][0])
    stopped = completions(llama, sampling=Sampling(8, stop))
    lengths = set()
    for i in whole:
        for tokens, found in zip(whole[i], stopped[i], strict=True):
            ends = [at for at, token in enumerate(tokens) if token in stop]
            assert found == tokens[: ends[0] + 1 if ends else None]
            lengths.add(len(found))
    assert {1, 8} <= lengths


@pytest.mark.parametrize("positions", few(["last", "all"]))
def test_vectors_layers_strengths_and_operators_share_one_compilation(llama, positions):
    completions(llama, positions=positions)
    traced = inference_generate._decode._cache_size(), inference_generate._place_keys._cache_size()
    for seed, how in enumerate(OPERATORS):
        values = np.random.default_rng(seed).normal(size=(DEPTH, WIDTH)).astype(np.float32)
        alphas = [Condition((seed % 3,), 0.3 * seed), Condition((0, 1), -1.0), Condition((0, 1, 2), 0.0)]
        completions(llama, edit=edit_of(SteeringVector(values, (0, 1, 2), "s", "d"), alphas, how), positions=positions)
    assert (inference_generate._decode._cache_size(), inference_generate._place_keys._cache_size()) == traced


@pytest.mark.slow
def test_noise_repeats_itself_and_is_shared_by_conditions_but_not_by_prompts_steps_or_seeds(llama):
    hot = Sampling(8, temperature=1e6)  # nothing but noise
    found = completions(llama, sampling=hot)
    assert found == completions(llama, sampling=hot)
    for of_prompt in found.values():
        assert all(tokens == of_prompt[0] for tokens in of_prompt)
        assert len(set(of_prompt[0])) > 4
    assert len({tuple(of_prompt[0]) for of_prompt in found.values()}) == len(PROMPTS)
    other = completions(llama, sampling=Sampling(8, temperature=1e6, seed=1))
    assert all(other[i] != found[i] for i in found)


@pytest.mark.slow
def test_tokens_are_drawn_as_often_as_the_softmax_says(llama):
    draws, temperature = 4096, 0.5
    found = completions(llama, [PROMPTS[3]] * draws, Sampling(1, temperature=temperature), edit=None)
    frequency = np.bincount([found[i][0][0] for i in range(draws)], minlength=VOCABULARY) / draws
    logits = log_probabilities(*llama, [PROMPTS[3]], EDIT, 0, [0])[0, -1] / temperature
    probability = np.asarray(jax.nn.softmax(logits))
    error = np.sqrt(probability * (1 - probability) / draws)
    assert probability.max() < 0.9
    assert (np.abs(frequency - probability) <= 4 * error).all()


def test_completions_that_have_ended_are_as_long_as_when_that_was_seen_whatever_is_beside_them(llama, monkeypatch):
    monkeypatch.setattr(inference_generate, "LOOK_EVERY", 3)
    whole = completions(llama)
    looks = []

    def has_ended(tokens):
        looks.append(len(tokens))
        return bool(tokens[1] % 2)

    found = completions(llama, has_ended=has_ended)
    for i, of_prompt in whole.items():
        assert found[i] == [tokens[:3] if tokens[1] % 2 else tokens for tokens in of_prompt]
    assert set(looks) == {3, 6}
    assert {len(tokens) for of_prompt in found.values() for tokens in of_prompt} == {3, 8}
    assert completions(llama, has_ended=lambda tokens: True, batch_tokens=1) == {
        i: [tokens[:3] for tokens in of_prompt] for i, of_prompt in whole.items()
    }
