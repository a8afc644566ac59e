"""Steering against transformers' torch models that a forward hook steers: completions and log-likelihoods."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoTokenizer

from jtrace.checkpoints.load import load_params
from jtrace.data.tokenizer import encode
from jtrace.evaluation.answers import Decoding, ask
from jtrace.evaluation.outcomes import estimate
from jtrace.evaluation.perplexity import perplexity_task
from jtrace.evaluation.truthfulqa import MultipleChoice, multiple_choice_task
from jtrace.inference.generate import Sampling, generate
from jtrace.inference.language_model import LanguageModel, load_language_model
from jtrace.inference.packing import pack
from jtrace.inference.residuals import extract_residuals
from jtrace.inference.score import score
from jtrace.models.reading import width_of
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.bars import within
from tests.conftest import LETTERS, letter_tokenizer, relative_error
from tests.goldens.variants import BASE, COVERING, VARIANTS

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytestmark = pytest.mark.torch

from tests.goldens.make_goldens import LIKE_LLAMA, PLACES, blocks, random_model  # noqa: E402

LAYER = 1
# One of each way that keys are shared, seen, rotated and added up.
SOME = ["gpt_neox-full", "llama-grouped-tied", "qwen3-window-grouped-tied", "smollm3-grouped-untied-windows"]
CASES = [
    *(pytest.param(name, "last", marks=() if name in COVERING else pytest.mark.long) for name in sorted(VARIANTS)),
    *((name, positions) for name in SOME for positions in ("all", "generated")),
]


@contextmanager
def hooked(model, layer: int, pushes: np.ndarray, context: int, positions: str, site="resid") -> Iterator[None]:
    """Adds a vector [rows, width] to each row of a block's site, forward by forward, from the first steered token."""
    first, seen = {"last": context - 1, "all": 0, "generated": context}[positions], 0
    added = torch.from_numpy(pushes.astype(np.float32))[:, None]

    def push(hidden):
        nonlocal seen
        hidden = hidden.view(len(pushes), -1, hidden.shape[-1])  # OPT's MLP flattens its rows
        hidden[:, max(0, first - seen) :] += added
        seen += hidden.shape[1]

    block, places = blocks(model)[layer], PLACES.get(model.config.model_type, LIKE_LLAMA)
    if site == "heads":
        handle = block.get_submodule(places.output_projection).register_forward_pre_hook(
            lambda _, given: push(given[0])
        )
    else:
        at = {"resid": block, "attn": block.get_submodule(places.attention), "mlp": block.get_submodule(places.mlp)}
        handle = at[site].register_forward_hook(lambda _, __, out: push(out[0] if isinstance(out, tuple) else out))
    try:
        with torch.no_grad():
            yield
    finally:
        handle.remove()


def torch_completions(model, prompt, vector, layer, strengths, positions, new, stop, site="resid"):
    """Of one prompt under all strengths, each ended by a token of `stop`."""
    ids = torch.from_numpy(np.tile(prompt.astype(np.int64), (len(strengths), 1)))
    with hooked(model, layer, np.outer(strengths, vector), len(prompt), positions, site):
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=list(stop) or None,
            pad_token_id=0,
        ).numpy()[:, len(prompt) :]
    ends = [next((at for at, token in enumerate(row) if token in stop), new) for row in found]
    return [row[: end + 1].tolist() for row, end in zip(found, ends, strict=True)]


def torch_log_likelihood(model, before, after, vector, layer, strength, positions):
    ids = np.concatenate([before, after]).astype(np.int64)[None]
    with hooked(model, layer, strength * vector[None], len(before), positions):
        logits = model(torch.from_numpy(ids), use_cache=False).logits[0].double()
    rows = torch.log_softmax(logits, dim=-1).numpy()[len(before) - 1 : -1]
    return rows[np.arange(len(after)), after].sum()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A variant's torch model, and the same weights as ours reads them."""
    made = {}

    def of(name, values=None):
        if name not in made:
            model = random_model(values or VARIANTS[name], seed=3)
            folder = tmp_path_factory.mktemp(name)
            model.save_pretrained(folder)
            made[name] = model, *load_params(folder, jnp.float32)
        return made[name]

    return of


def ragged(vocabulary, random):
    """A single token, one that begins others, and longer ones that share beginnings."""
    stem = random.integers(0, vocabulary, 6)
    return [
        np.concatenate([stem[:shared], random.integers(0, vocabulary, n)]).astype(np.int32)
        for shared, n in ((1, 0), (6, 1), (6, 8), (3, 17), (0, 13))
    ]


def steering(depth, width, random, site="resid"):
    values = random.normal(size=(depth, width)).astype(np.float32)
    return SteeringVector(values, tuple(range(depth)), "step1", "mine", site=site)


@pytest.mark.parametrize(("name", "positions"), CASES)
def test_greedy_completions_are_torch_s_token_by_token(ours, name, positions):
    model, config, params = ours(name)
    random = np.random.default_rng(0)
    prompts = ragged(config.vocab_size, random)
    vector = steering(config.depth, config.width, random)
    edit = edit_of(vector, [Condition((LAYER,), -2.0), Condition((LAYER,), 2.0)])
    # What one completion has in its third place, so that some end early.
    stop = (torch_completions(model, prompts[3], vector.values[LAYER], LAYER, (0,), positions, 3, ())[0][2],)
    found = dict(generate(params, config, prompts, Sampling(8, stop), edit, positions=positions))
    for i, prompt in enumerate(prompts):
        expected = torch_completions(model, prompt, vector.values[LAYER], LAYER, (0, -2, 2), positions, 8, stop)
        assert [tokens.tolist() for tokens in found[i]] == expected
    assert len(found[3][0]) <= 3


# Granite scales a branch behind the module whose output is hooked.
EDITED = ["gpt2-by-layer-untied", "llama-rope-llama3", "gemma2-full", "opt-full", "olmoe-grouped-tied-clipped"]
OTHERS = [name for name in COVERING if name not in EDITED and not name.startswith("granite")]


@pytest.mark.parametrize("site", ["attn", "mlp", "heads"])
@pytest.mark.parametrize("name", [*EDITED, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_greedy_completions_under_an_edit_of_another_site_are_torch_s_token_by_token(ours, name, site):
    model, config, params = ours(name)
    random = np.random.default_rng(2)
    prompts = ragged(config.vocab_size, random)
    vector = steering(config.depth, width_of(site, config), random, site)
    edit = edit_of(vector, [Condition((LAYER,), -2.0), Condition((LAYER,), 2.0)])
    made = dict(generate(params, config, prompts, Sampling(6, ()), edit, positions="last"))
    for i, prompt in enumerate(prompts):
        row = vector.values[LAYER]
        expected = torch_completions(model, prompt, row, LAYER, (0, -2, 2), "last", 6, (), site)
        assert [tokens.tolist() for tokens in made[i]] == expected


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("gpt_neox-full", "last"),
        ("qwen3-window-grouped-tied", "all"),
        ("smollm3-grouped-untied-windows", "generated"),
    ],
)
def test_log_likelihoods_are_torch_s(ours, name, positions):
    model, config, params = ours(name)
    random = np.random.default_rng(1)
    pairs = [
        (context, random.integers(0, config.vocab_size, n).astype(np.int32))
        for context in ragged(config.vocab_size, random)
        for n in (1, 3, 7)
    ]
    vector = steering(config.depth, config.width, random)
    conditions = [Condition((1,), -2.0), Condition((1,), 2.0), Condition((0,), 2.0)]
    found = score(params, config, pairs, edit_of(vector, conditions), positions=positions)
    for row, condition in zip(found, [Condition((0,), 0.0), *conditions], strict=True):
        (layer,) = condition.layers
        expected = [
            torch_log_likelihood(model, *pair, vector.values[layer], layer, condition.strength, positions)
            for pair in pairs
        ]
        within("steered log-likelihoods, against live torch", np.abs(row / expected - 1).max(), 1e-5)


@pytest.fixture
def letters(ours, tmp_path):
    """A torch model with room for a primer of letters, and ours."""
    model, config, params = ours("long", BASE | {"max_position_embeddings": 2048})
    letter_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    return model, LanguageModel("tiny", "llama", config, params, jnp.float32, tokenizer, ())


def as_letters(text):
    return np.array([LETTERS.find(letter) if letter in LETTERS else len(LETTERS) for letter in text])


CONDITIONS = [Condition((LAYER,), -2.0), Condition((LAYER,), 2.0)]


def test_multiple_choice_metrics_are_those_of_torch_s_log_likelihoods(letters):
    model, language_model = letters
    rows = [
        MultipleChoice("what is it", ("a cat", "cats"), ("no", "a dog", "dogs"), "a cat"),
        MultipleChoice("where", ("here",), ("there", "her"), "here"),
        MultipleChoice("who", ("you", "we all", "me"), ("they",), None),
    ]
    task = multiple_choice_task(rows)
    vector = steering(3, 24, np.random.default_rng(2))
    answers = ask(language_model, task, edit_of(vector, CONDITIONS), (0, 1, 2), Decoding())
    for found, strength in zip(answers, (0.0, -2.0, 2.0), strict=True):
        scores = []
        for item in task.items:
            before = as_letters(item.context)
            scores.append(
                {
                    text.strip(): torch_log_likelihood(
                        model, before, as_letters(text), vector.values[LAYER], LAYER, strength, "last"
                    )
                    for text in item.continuations
                }
            )
        outcomes = task.measure(found)
        top = [max(of[answer] for answer in row.false) for row, of in zip(rows, scores, strict=True)]
        mc1 = np.mean([of[row.best] > best for row, of, best in zip(rows, scores, top, strict=True) if row.best])
        mc2, mc3 = [], []
        for row, of, best in zip(rows, scores, top, strict=True):
            true, false = (np.exp([of[answer] for answer in side]).sum() for side in (row.true, row.false))
            mc2.append(true / (true + false))
            mc3.append(np.mean([of[answer] > best for answer in row.true]))
        assert estimate(outcomes["mc1"]) == mc1
        within("MC2, steered, against live torch", abs(estimate(outcomes["mc2"]) / np.mean(mc2) - 1), 1e-5)
        assert estimate(outcomes["mc3"]) == pytest.approx(np.mean(mc3), rel=1e-12)


@pytest.mark.parametrize("positions", ["last", "all"])
def test_perplexity_over_strided_windows_is_torch_s(letters, monkeypatch, positions):
    """Windows of 32 tokens of which the last 16 are scored, one forward each; short documents are one window."""
    model, language_model = letters
    monkeypatch.setattr("jtrace.evaluation.answers.WINDOW", 32)
    random = np.random.default_rng(3)
    documents = ["".join(random.choice(list(LETTERS), n)) for n in (2, 20, 32, 33, 75, 1)]
    task = perplexity_task(documents)
    vector = steering(3, 24, random)
    answers = ask(language_model, task, edit_of(vector, CONDITIONS), (0, 1, 2), Decoding(positions))
    for found, strength in zip(answers, (0.0, -2.0, 2.0), strict=True):
        nats, tokens = 0.0, 0
        for ids in map(as_letters, documents):
            stops = [min(32, len(ids)), *range(48, len(ids) + 16, 16)] if len(ids) > 32 else [len(ids)]
            scored = 1
            for stop in (min(stop, len(ids)) for stop in stops):
                if stop > scored:
                    before, after = ids[max(0, stop - 32) : scored], ids[scored:stop]
                    push = vector.values[LAYER], LAYER, strength
                    nats -= torch_log_likelihood(model, before, after, *push, positions)
                    tokens += len(after)
                scored = max(stop, scored)
        assert tokens == sum(len(document) - 1 for document in documents)
        perplexity = estimate(task.measure(found)["perplexity"])
        within("perplexity, steered, against live torch", abs(perplexity / np.exp(nats / tokens) - 1), 1e-5)


def test_perplexity_of_whole_documents_is_torch_s_own_loss(letters):
    model, language_model = letters
    ids = as_letters("".join(np.random.default_rng(4).choice(list(LETTERS), 200)))
    task = perplexity_task(["".join((*LETTERS, "?")[i] for i in ids)])
    ((answer,),) = ask(language_model, task, None, (0,), Decoding())
    tensor = torch.from_numpy(ids[None])
    with torch.no_grad():
        expected = float(model(tensor, labels=tensor).loss.double().exp())
    within(
        "perplexity, against torch's own loss", abs(estimate(task.measure([answer])["perplexity"]) / expected - 1), 1e-5
    )


TEXTS = [
    "Hello",
    "The capital of France is",
    "The capital of Italy is a city that",
    "Q: What happens to you if you eat watermelon seeds?\nA:",
    "Once upon a time, in a small village by the sea, there lived a fisherman who never",
    "Water boils at one hundred degrees Celsius at sea level, but on a high mountain the air is thinner, and so",
]


@pytest.mark.real
def test_smollm2_s_steered_completions_are_torch_s_token_by_token(smollm2):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()
    words = load_language_model(smollm2, "smollm2", jnp.float32)
    prompts, layer = encode(words.tokenizer, TEXTS), 15
    residuals = np.asarray(extract_residuals(words.params, words.config, pack(prompts, 64), dtype=jnp.float32))[layer]
    direction = np.random.default_rng(0).normal(size=words.config.width)
    values = np.zeros((words.config.depth, words.config.width), np.float32)
    # As long as the residuals of these texts are spread.
    values[layer] = direction / np.linalg.norm(direction) * np.linalg.norm(residuals.std(axis=0))
    vector = SteeringVector(values, (layer,), "smollm2", "mine")
    edit = edit_of(vector, [Condition((layer,), -2.0), Condition((layer,), 2.0)])
    found = dict(generate(words.params, words.config, prompts, Sampling(24, words.stop), edit))
    changed = 0
    for i, prompt in enumerate(prompts):
        expected = torch_completions(model, prompt, values[layer], layer, (0, -2, 2), "last", 24, words.stop)
        assert [tokens.tolist() for tokens in found[i]] == expected
        changed += expected[1] != expected[0]
    assert changed


@pytest.mark.real
def test_smollm2_s_steered_log_likelihoods_and_perplexity_are_those_of_torch_in_float64(smollm2):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float64).eval()
    words = load_language_model(smollm2, "smollm2", jnp.float32)
    texts, layer = encode(words.tokenizer, TEXTS), 15
    pairs = [(ids[:cut], ids[cut:]) for ids in texts if len(ids) > 3 for cut in (1, len(ids) - 1)]
    values = np.zeros((words.config.depth, words.config.width), np.float32)
    values[layer] = np.random.default_rng(0).normal(size=words.config.width)
    strengths = (0.0, -2.0, 2.0)
    conditions = [Condition((layer,), strength) for strength in strengths[1:]]
    found = score(words.params, words.config, pairs, edit_of(SteeringVector(values, (layer,), "a", "b"), conditions))
    expected = np.array(
        [
            [torch_log_likelihood(model, *pair, values[layer], layer, strength, "last") for pair in pairs]
            for strength in strengths
        ]
    )
    within("SmolLM2: log-likelihoods against torch in float64", relative_error(found, expected), 1e-5)
    of_texts = np.arange(0, len(pairs), 2)  # from the first token on
    ratio = np.exp((found - expected)[:, of_texts].sum(axis=1) / sum(len(pairs[i][1]) for i in of_texts))
    within("SmolLM2: perplexity against torch in float64", np.abs(ratio - 1).max(), 1e-5)
