"""Answers as they are measured: what is asked, that all contenders answer alike, and that a fault would be seen."""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import pytest

from jtrace.benchmark import prompts as benchmark_prompts
from jtrace.benchmark.case import Measured
from jtrace.benchmark.cases import generate, score
from jtrace.benchmark.workload import BATCHED, CONTENDERS, JTRACE, PUBLISHED, Setting, Workload
from jtrace.checkpoints.export import save_hf
from jtrace.data.registry import BUILTIN
from jtrace.errors import InputError
from jtrace.inference.packing import operations_per_slot
from jtrace.models.families import read_model_config
from jtrace.models.presets import find_preset
from jtrace.pretraining.step import initial_params
from tests.conftest import letter_tokenizer
from tests.plain import log_probabilities

CASES = {case.name: case for case in (generate.CASE, score.CASE)}


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A tiny decoder that ends at once where it may, and 20 statements of unlike lengths."""
    folder = tmp_path_factory.mktemp("answers")
    values = find_preset("tiny").config_json(61, 256, 1, list(range(30)))
    save_hf(folder / "model", values, initial_params(read_model_config(values, "tiny")[0], 0))
    letter_tokenizer(folder / "model")
    random = np.random.default_rng(0)
    rows = [f"{''.join(random.choice(list('abcdefg'), 4 + i % 7))},{i % 2}\n" for i in range(20)]
    (folder / "mine.csv").write_text("statement,label\n" + "".join(rows))
    model, statements = folder / "model", str(folder / "mine.csv")
    return Setting(
        model, model, (statements,), None, "float32", rounds=1, limit=None, sample=4, new_tokens=5, prompts=6
    )


@functools.cache
def measured(name: str, setting: Setting) -> Mapping[str, Measured]:
    return {contender: CASES[name].measure(contender, Workload(setting, contender)) for contender in CONTENDERS}


def test_the_same_questions_are_asked_in_every_process(setting):
    asked, again = (benchmark_prompts.choices(Workload(setting, contender)) for contender in (JTRACE, PUBLISHED))
    for one, other in zip(asked, again, strict=True):
        np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))
    assert [len(after) for _, after in asked] == [1, 2, 3, 4] * 6
    shared = Workload(setting, JTRACE)
    rows = benchmark_prompts.prompts(shared)
    for (before, _), row in zip(asked[::4], rows, strict=True):
        np.testing.assert_array_equal(before[-len(row) :], row)
    np.testing.assert_allclose(
        np.linalg.norm(benchmark_prompts.pushes(shared.config), axis=1), [30, 15, 0, 15, 30], rtol=1e-5
    )


def test_prompts_longer_than_the_context_are_refused(setting):
    with pytest.raises(InputError, match="takes 256; give shorter statements or fewer --max_new_tokens"):
        benchmark_prompts.prompts(Workload(dataclasses.replace(setting, new_tokens=250), JTRACE))


def plain(shared: Workload, strength: int, texts: list[np.ndarray], first: list[int]) -> np.ndarray:
    """Log-probabilities [text, token, vocabulary] under a strength, by the decoder without packing or cache."""
    steering, conditions = benchmark_prompts.edit(shared.config)
    return log_probabilities(shared.params, shared.config, texts, steering, conditions[strength], first)


def test_jtrace_s_scores_are_those_of_a_plain_decoder_under_every_strength(setting):
    shared = Workload(setting, JTRACE)
    measured, pairs = score.CASE.measure(JTRACE, shared), benchmark_prompts.choices(shared)
    texts, last = [np.concatenate(pair) for pair in pairs], [len(before) - 1 for before, _ in pairs]
    expected = np.zeros((5, len(pairs)))
    for strength in range(5):
        table = plain(shared, strength, texts, last)
        for number, (at, (_, after)) in enumerate(zip(last, pairs, strict=True)):
            expected[strength, number] = table[number, at + np.arange(len(after)), after].sum()
    np.testing.assert_allclose(measured.arrays["scores"], expected, rtol=1e-4)
    assert measured.units == expected.size == 5 * 6 * 4
    assert len(measured.rounds) == setting.rounds


def test_jtrace_s_completions_are_a_plain_decoder_s_likeliest_tokens_under_every_strength(setting):
    shared = Workload(setting, JTRACE)
    measured, asked = generate.CASE.measure(JTRACE, shared), benchmark_prompts.prompts(shared)
    tokens = measured.arrays["tokens"]
    assert tokens.shape == (5, 6, 5)
    assert measured.units == tokens.size
    assert len({made.tobytes() for made in tokens}) > 1
    for strength, made in enumerate(tokens):
        texts = [np.concatenate(pair) for pair in zip(asked, made, strict=True)]
        table = plain(shared, strength, texts, [len(ids) - 1 for ids in asked])
        for number, (ids, row) in enumerate(zip(asked, made, strict=True)):
            after = table[number, len(ids) - 1 + np.arange(len(row))]
            # At near ties either token may be chosen.
            assert (after.max(-1) - after[np.arange(len(row)), row] < generate.NEAR_TIE).all()


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_contenders_agree(setting, name, dtype):
    pytest.importorskip("torch")
    found = measured(name, dataclasses.replace(setting, dtype=dtype))
    agreements = CASES[name].agree({contender: of.arrays for contender, of in found.items()})
    assert [of for of in agreements if not of.holds] == []
    assert any(of.bar is not None for of in agreements)
    # Published on its sample: one prompt's completions, or one question's 4 choices, under 5 strengths.
    units = {"generate": (6 * 5 * 5, 1 * 5 * 5), "score": (6 * 4 * 5, 4 * 5)}[name]
    assert [found[contender].units for contender in CONTENDERS] == [units[0], units[1], units[0]]


@pytest.mark.torch
def test_strengths_change_the_answers_and_a_fault_is_seen(setting):
    pytest.importorskip("torch")
    arrays = {contender: dict(of.arrays) for contender, of in measured("score", setting).items()}
    assert np.abs(arrays[JTRACE]["scores"][0] - arrays[JTRACE]["scores"][2]).max() > 0.1
    arrays[JTRACE]["scores"] = arrays[JTRACE]["scores"][::-1]
    assert not all(of.holds for of in score.CASE.agree(arrays))


@pytest.mark.torch
def test_second_choices_are_the_published_process_s_own(setting):
    """Completions made of second choices part by the gap that was told at their first token."""
    pytest.importorskip("torch")
    found = measured("generate", setting)[PUBLISHED].arrays
    assert (found["gaps"] >= 0).all()
    assert (found["runners_up"] != found["tokens"]).all()
    by = generate.likelier_by(found["runners_up"], found["tokens"], found["runners_up"], found["gaps"])
    assert by == found["gaps"][..., 0].max()


def test_bfloat16_completions_part_about_as_soon_as_torch_s():
    truth = np.arange(20).reshape(1, 2, 10)

    def parting(at: int) -> np.ndarray:
        tokens = truth.copy()
        tokens[..., at] += 1
        return tokens

    def holds(ours: int) -> bool:
        items = np.arange(2)
        mine = {"tokens": parting(ours), "dtype": np.array("bfloat16"), "decoding_bytes_per_s": np.array(1e9)}
        theirs = {PUBLISHED: {"tokens": truth, "items": items}, BATCHED: {"tokens": parting(6), "items": items}}
        *_, agreement = generate.CASE.agree({JTRACE: mine, **theirs})
        return agreement.holds

    assert generate.tokens_agreed(parting(6), truth) == 6
    assert [holds(at) for at in (0, 3, 4, 9)] == [False, False, True, True]


def test_a_set_without_evaluation_rows_is_passed_over(setting):
    shared = Workload(setting, JTRACE)
    (of,) = shared.sets.values()
    wholly = dataclasses.replace(of, name="truthfulqa", info=BUILTIN["truthfulqa"])
    shared.sets, shared.tokens = {"truthfulqa": wholly, of.name: of}, {"truthfulqa": [], **shared.tokens}
    assert len(benchmark_prompts.prompts(shared)) == 6
    assert len(benchmark_prompts.choices(shared)) == 24
    shared.sets = {"truthfulqa": wholly}
    with pytest.raises(InputError, match="--statements=truthfulqa: no set has rows to be asked"):
        benchmark_prompts.prompts(shared)


def test_completions_may_part_at_a_near_tie_alone():
    theirs, gaps = np.array([[[3, 4, 5]]]), np.array([[[2.0, 1e-4, 1.0]]], np.float32)
    runners_up = np.array([[[9, 8, 7]]])
    assert generate.likelier_by(theirs, theirs, runners_up, gaps) == 0
    # Whatever follows the first difference is another text.
    assert generate.likelier_by(np.array([[[3, 8, 1]]]), theirs, runners_up, gaps) == np.float32(1e-4)
    assert generate.likelier_by(np.array([[[3, 6, 5]]]), theirs, runners_up, gaps) == np.inf
    assert generate.likelier_by(np.array([[[9, 4, 5]]]), theirs, runners_up, gaps) == 2


def test_bfloat16_is_held_to_half_as_much_again_as_torch_s_error():
    truth = np.full((5, 4), -10.0)

    def found(ours: float) -> dict:
        items, dtype = np.arange(4), np.array("bfloat16")
        return {
            JTRACE: {"scores": truth + ours, "dtype": dtype},
            PUBLISHED: {"scores": truth, "items": items},
            BATCHED: {"scores": truth + 0.1, "items": items},
        }

    assert all(of.holds for of in score.CASE.agree(found(0.14)))
    assert not all(of.holds for of in score.CASE.agree(found(0.16)))


def test_the_floor_counts_every_shared_prefix_once(setting):
    config = Workload(setting, JTRACE).config
    inner, head = config.heads * config.head_dim, 2 * config.vocab_size * config.width

    def operations(slots: int, seen: int, predicting: int) -> float:
        return slots * operations_per_slot(config, 0) + 4 * config.depth * inner * seen + predicting * head

    context, weights = np.array([5, 6, 7]), operations_per_slot(config, 0) // 2 + head // 2
    pairs = [(context, np.array([8])), (context, np.array([9, 10]))]
    # Two slots before the first steered one; then the context's last, and 9 behind it, under either condition.
    floor = score.floor_of(config, pairs, [0, 1], batch_slots=2048, itemsize=4)
    assert floor.operations == operations(2 + 2 * 2, 1 + 2 + 2 * (3 + 4), 2 * 2)
    assert floor.bytes == 4 * weights
    # Of the prompts the slots 5, 6 once; each then takes two steps under each strength.
    floor = generate.floor_of(config, [context, context + np.array([0, 0, 1])], new_tokens=2, batches=1, itemsize=2)
    assert floor.operations == operations(2 + 5 * 2 * 2, 1 + 2 + 5 * 2 * (3 + 4), 5 * 2 * 2)
    kept = 2 * config.depth * config.kv_heads * config.head_dim
    assert floor.bytes == 2 * (2 * weights + kept * (2 * 2 * 3 + 5 * 2))
