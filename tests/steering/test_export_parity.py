"""Vectors between jtrace and other tools: the same greedy text, steered by theirs and by ours."""

import jax.numpy as jnp
import numpy as np
import pytest
from transformers import AutoTokenizer

from jtrace.checkpoints.load import load_params
from jtrace.inference.generate import Sampling, generate
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import ModelFacts, Vectors, read_vectors
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.conftest import letter_tokenizer
from tests.goldens.variants import VARIANTS

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytestmark = pytest.mark.torch

from tests.goldens.make_goldens import random_model  # noqa: E402

NEW = 12
PROMPTS = [np.arange(start, start + 5, dtype=np.int32) for start in (3, 17, 40)]


def our_texts(folder, path, strength, roll=0):
    """Greedy tokens unsteered and with a file's one vector added at all positions, each row `roll` layers too high."""
    config, params = load_params(folder, jnp.float32)
    vectors = read_vectors(path)
    (array,) = vectors.arrays.values()
    values = np.zeros((config.depth, config.width), np.float32)
    values[list(vectors.layers)] = np.roll(array, roll, axis=0)
    edit = edit_of(SteeringVector(values, vectors.layers, "theirs", "mine"), [Condition(vectors.layers, strength)])
    texts = dict(generate(params, config, PROMPTS, Sampling(NEW, ()), edit, positions="all"))
    return [[texts[at][condition].tolist() for at in range(len(PROMPTS))] for condition in (0, 1)]


def their_texts(model):
    texts = []
    for prompt in PROMPTS:
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        mask = torch.ones_like(ids)
        with torch.no_grad():
            tokens = model.generate(
                ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0
            )
        texts.append(tokens[0, len(prompt) :].tolist())
    return texts


# Models whose texts vary, and so tell one layer from another.
@pytest.mark.parametrize(("name", "seed"), [("llama-full", 3), ("gpt_neox-no-attention-bias", 4)])
def test_lm_eval_s_hooks_steer_as_jtrace_does(tmp_path, name, seed):
    """What lm-eval 0.4.13 does with a file, in `SteeredModel` and `steer`, by hand."""
    model = random_model(VARIANTS[name], seed=seed)
    model.save_pretrained(tmp_path / "model")
    depth, width = model.config.num_hidden_layers, model.config.hidden_size
    rows = np.random.default_rng(1).normal(size=(depth, width)).astype(np.float32)
    facts = ModelFacts(model.config.model_type, width, depth)
    vectors = Vectors("a", "pca", {"mine": rows}, tuple(range(depth)), {"mine": None}, facts)
    write_vector(tmp_path / "v.pt", vectors, strength=-0.5)
    config = torch.load(tmp_path / "v.pt", weights_only=True)
    plain, handles = their_texts(model), []
    for hookpoint, module in model.base_model.named_modules():
        if hookpoint in config:
            push = config[hookpoint]["steering_vector"] * config[hookpoint]["steering_coefficient"]

            def add(_, __, output, push=push):
                return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push

            handles.append(module.register_forward_hook(add))
    assert len(handles) == len(config) == depth
    steered = their_texts(model)
    assert our_texts(tmp_path / "model", tmp_path / "v.pt", 1.0) == [plain, steered]
    assert steered not in (plain, our_texts(tmp_path / "model", tmp_path / "v.pt", 1.0, roll=1)[1])


@pytest.fixture
def repeng(monkeypatch):
    # Version 0.4.0 names a type that numpy 2 no longer has.
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    return pytest.importorskip("repeng", reason="repeng is not installed")


def test_repeng_s_vector_steers_jtrace_as_it_steers_torch(tmp_path, repeng):
    model = random_model(VARIANTS["llama-full"], seed=3)
    model.save_pretrained(tmp_path / "model")
    plain = their_texts(model)
    random, depth = np.random.default_rng(2), model.config.num_hidden_layers
    rows = random.normal(size=(depth, model.config.hidden_size)).astype(np.float32)
    control = repeng.ControlVector("llama", {layer: rows[layer] for layer in range(depth - 1, 0, -1)})
    control.export_gguf(tmp_path / "theirs.gguf")
    found = read_vectors(tmp_path / "theirs.gguf")
    assert found.layers == tuple(range(1, depth))
    facts = ModelFacts("llama", rows.shape[1], depth)
    ours = Vectors("a", "pca", {"mine": rows[1:]}, found.layers, {"mine": None}, facts)
    write_vector(tmp_path / "ours.gguf", ours)
    assert repeng.ControlVector.import_gguf(tmp_path / "ours.gguf") == control
    steered_model = repeng.ControlModel(model, found.layers)
    steered_model.set_control(control, -0.5)
    steered = their_texts(steered_model)
    assert our_texts(tmp_path / "model", tmp_path / "theirs.gguf", -0.5) == [plain, steered]
    assert steered not in (plain, our_texts(tmp_path / "model", tmp_path / "theirs.gguf", -0.5, roll=1)[1])


def test_steering_vectors_own_vector_steers_jtrace_as_it_steers_torch(tmp_path):
    theirs = pytest.importorskip("steering_vectors", reason="steering-vectors is not installed")
    model = random_model(VARIANTS["llama-full"], seed=3)
    model.save_pretrained(tmp_path / "model")
    letter_tokenizer(tmp_path / "model")
    pairs = [("the sun is hot", "the sun is cold"), ("ice is cold", "ice is hot"), ("a b c", "c b a")]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.pad_token = tokenizer.unk_token  # they pad, if only batches of one text
    trained = theirs.train_steering_vector(model, tokenizer, pairs)
    rows = {layer: row.numpy() for layer, row in sorted(trained.layer_activations.items())}
    assert list(rows) == list(range(model.config.num_hidden_layers))
    np.savez(tmp_path / "theirs.npz", **{f"layer.{layer}": row for layer, row in rows.items()})
    strength = 2 / max(float(np.abs(row).max()) for row in rows.values())
    plain = their_texts(model)
    with trained.apply(model, multiplier=strength):
        steered = their_texts(model)
    assert our_texts(tmp_path / "model", tmp_path / "theirs.npz", strength) == [plain, steered]
    assert steered not in (plain, our_texts(tmp_path / "model", tmp_path / "theirs.npz", strength, roll=1)[1])
