"""Log-likelihoods of packed continuations against the plain forward, one row per pair."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.inference import score as inference_score
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.score import score, score_and_compare
from jtrace.models.intervention import POSITIONS, steered_from
from jtrace.steering.vector import OPERATORS, Condition, SteeringVector, edit_of
from tests.bars import within
from tests.conftest import GOLDENS
from tests.plain import log_probabilities

DEPTH, WIDTH = 3, 24
random = np.random.default_rng(0)
VECTOR = SteeringVector(random.normal(size=(DEPTH, WIDTH)).astype(np.float32), (0, 1, 2), "step1", "mine")
ALPHAS = [Condition((1,), -2.0), Condition((1,), 2.0), Condition((0, 2), 1.0)]
EDIT = edit_of(VECTOR, ALPHAS)
every_position = pytest.mark.parametrize("positions", POSITIONS)


def tokens(count):
    return random.integers(0, 61, count).astype(np.int32)


STEM = tokens(6)
CONTEXTS = [np.concatenate([STEM[:shared], tokens(own)]) for shared, own in ((0, 1), (6, 0), (6, 5), (3, 9), (6, 20))]
# Several continuations to each context, one that begins as another, and the first of them given twice.
PAIRS = [(context, after) for context in CONTEXTS for after in (tokens(1), tokens(3), tokens(7))]
PAIRS += [(CONTEXTS[2], PAIRS[7][1][:2]), PAIRS[0]]


@pytest.fixture(scope="module")
def llama():
    config, params = load_params(GOLDENS / "llama-full", jnp.float32)
    return params, config


@pytest.fixture(scope="module")
def windowed():
    config, params = load_params(GOLDENS / "qwen3-window-grouped-tied", jnp.float32)
    return params, config


def expected(model, positions, edit=EDIT, pairs=PAIRS):
    texts = [np.concatenate(pair) for pair in pairs]
    first = [steered_from(len(before), positions) for before, _ in pairs]
    found = np.zeros((edit.push.shape[1], len(pairs)))
    for condition in range(len(found)):
        plain = log_probabilities(*model, texts, edit, condition, first)
        for i, (before, after) in enumerate(pairs):
            found[condition, i] = plain[i, len(before) - 1 + np.arange(len(after)), after].sum()
    return found


@every_position
@pytest.mark.parametrize("model", ["llama", "windowed"])
def test_log_likelihoods_are_those_of_a_plain_forward(request, model, positions):
    model = request.getfixturevalue(model)
    found, plain = score(*model, PAIRS, EDIT, positions=positions), expected(model, positions)
    assert found.dtype == np.float64
    within("log-likelihoods, packed, against a plain forward", np.abs(found / plain - 1).max(), 1e-5)
    assert np.abs(plain[1:] - plain[0]).max() > 1


@pytest.mark.parametrize("how", OPERATORS)
def test_every_operator_is_scored(llama, how):
    edit = edit_of(VECTOR, ALPHAS, how)
    found, plain = score(*llama, PAIRS, edit), expected(llama, "last", edit)
    within("log-likelihoods, packed, against a plain forward", np.abs(found / plain - 1).max(), 1e-5)


@every_position
@pytest.mark.parametrize("how", ["add", "add_keep_norm", "project_out"])
def test_strength_0_equals_the_unsteered_model_bit_for_bit_in_rows_of_one_layout(llama, how, positions):
    zero = edit_of(VECTOR, [Condition((0, 1, 2), 0.0)], how)
    found = score(*llama, PAIRS, zero, conditions=(1,), positions=positions)
    # Where its branches begin moves slots, and with them the order of sums: without an edit, laid out alike.
    np.testing.assert_array_equal(found, score(*llama, PAIRS, None, conditions=(1,), positions=positions))
    within("log-likelihoods, strength 0 in other rows", np.abs(found / score(*llama, PAIRS) - 1).max(), 1e-5)


@every_position
def test_condition_0_equals_the_unsteered_model_bit_for_bit(llama, positions):
    found = score(*llama, PAIRS, EDIT, conditions=(0,), positions=positions)
    np.testing.assert_array_equal(found, score(*llama, PAIRS))


@every_position
def test_other_strengths_beside_it_change_no_bit(llama, positions):
    others = edit_of(VECTOR, [Condition((2,), 9.0), ALPHAS[1], Condition((0, 1), -5.0)])
    one, other = (score(*llama, PAIRS, edit, positions=positions) for edit in (EDIT, others))
    np.testing.assert_array_equal(one[[0, 2]], other[[0, 2]])


@every_position
def test_a_strength_among_others_equals_the_strength_alone(llama, positions):
    together = score(*llama, PAIRS, EDIT, positions=positions)
    for at, alpha in enumerate(ALPHAS, 1):
        (alone,) = score(*llama, PAIRS, edit_of(VECTOR, [alpha]), conditions=(1,), positions=positions)
        within("log-likelihoods, a strength among others", np.abs(alone / together[at] - 1).max(), 1e-5)


def test_some_conditions_come_in_the_order_asked_for(llama):
    together, chosen = score(*llama, PAIRS, EDIT), score(*llama, PAIRS, EDIT, conditions=(3, 0))
    within("log-likelihoods, a strength among others", np.abs(chosen / together[[3, 0]] - 1).max(), 1e-5)


def test_neither_order_nor_company_of_pairs_changes_them(llama):
    whole = score(*llama, PAIRS, EDIT)
    order = np.random.default_rng(1).permutation(len(PAIRS))
    np.testing.assert_array_equal(score(*llama, [PAIRS[i] for i in order], EDIT), whole[:, order])
    some = score(*llama, [PAIRS[i] for i in (3, 11)], EDIT)
    within("log-likelihoods, other pairs beside them", np.abs(some / whole[:, [3, 11]] - 1).max(), 1e-5)
    np.testing.assert_array_equal(whole[:, 0], whole[:, -1])  # the one that is given twice


@pytest.mark.parametrize("limit", ["sequences", "slots"])
def test_scoring_bit_by_bit_changes_nothing(llama, monkeypatch, limit):
    whole = score(*llama, PAIRS, EDIT)
    if limit == "sequences":
        monkeypatch.setattr(inference_score, "SEQUENCES_AT_ONCE", 8)
    else:
        monkeypatch.setattr(inference_score, "default_batch_slots", lambda: 128)
    within("log-likelihoods, in parts", np.abs(score(*llama, PAIRS, EDIT) / whole - 1).max(), 1e-5)


def test_no_pairs_no_log_likelihoods(llama):
    assert score(*llama, [], EDIT).shape == (4, 0)


def test_conditions_share_what_comes_before_the_first_steered_slot(llama, monkeypatch):
    """Of 30 tokens of context, all but the last are computed once for all four conditions."""
    context, after, used = tokens(30), tokens(4), []
    pack = inference_score.pack
    monkeypatch.setattr(inference_score, "pack", lambda *args: used.append(pack(*args)) or used[-1])
    for positions in POSITIONS:
        score(*llama, [(context, after)], EDIT, positions=positions)
    # The continuation's last token predicts nothing that is asked for, so that it takes no slot.
    assert [int(packed.used.sum()) for packed in used] == [29 + 4 * (1 + 3), 4 * (30 + 3), 30 + 4 * 3]


def test_vectors_layers_strengths_and_operators_share_one_compilation(llama):
    score(*llama, PAIRS, EDIT)
    traced = inference_score._log_probabilities._cache_size()
    for seed, how in enumerate(OPERATORS):
        values = np.random.default_rng(seed).normal(size=(DEPTH, WIDTH)).astype(np.float32)
        alphas = [Condition((seed % 3,), 0.3 * seed), Condition((0, 1), -1.0), Condition((0, 1, 2), 0.0)]
        score(*llama, PAIRS, edit_of(SteeringVector(values, (0, 1, 2), "s", "d"), alphas, how))
    assert inference_score._log_probabilities._cache_size() == traced


def test_greedy_continuations_are_known_as_such_from_the_same_forward(llama):
    contexts = [before for before, _ in PAIRS[:9:3]]
    greedy = [tokens for _, tokens in sorted(generate(*llama, contexts, Sampling(3), EDIT, conditions=(0, 2)))]
    pairs = [(context, of_one[at]) for context, of_one in zip(contexts, greedy, strict=True) for at in (0, 1)]
    others = [(before, np.append(after[:-1], (after[-1] + 1) % 61)) for before, after in pairs]
    sums, found = score_and_compare(*llama, [*pairs, *others], EDIT, conditions=(0, 2))
    np.testing.assert_array_equal(sums, score(*llama, [*pairs, *others], EDIT, conditions=(0, 2)))
    assert [found[at, i] for i in range(len(pairs)) for at in (i % 2,)] == [True] * len(pairs)
    assert not found[:, len(pairs) :].all(axis=0).any()
    assert not any(found[i % 2, len(pairs) + i] for i in range(len(pairs)))
