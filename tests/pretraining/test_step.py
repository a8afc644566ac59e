"""The step: its loss, its update, and what neither devices, micro-batches nor other documents change."""

import dataclasses
import os
import subprocess
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jtrace.data.corpus.rows import Rows
from jtrace.data.corpus.tokenise import Tokens
from jtrace.models.config import DecoderConfig, LayerKind, Rope
from jtrace.models.decoder import Decoder, Slots
from jtrace.pretraining.step import (
    Optimisation,
    decays,
    evaluation,
    initial_params,
    initial_state,
    local_mesh,
    to_batch,
    train_step,
)
from tests.conftest import ROOT, with_devices
from tests.data.corpus.test_rows import all_rows, laid_out

CONFIG = DecoderConfig(40, 32, 4, 2, 8, 48, 16, (LayerKind(Rope(1e4)),) * 2, 1e-5, tied_head=True)
OPTIMISATION = Optimisation(steps=50, learning_rate=1e-2, warmup=5)


def documents(count: int = 24) -> list[Tokens]:
    """Counting upwards from random numbers, so that there is something to learn."""
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, 20, count), random.integers(2, 16, count)
    return [Tokens(np.arange(a, a + n, dtype=np.int32), np.ones(n, bool)) for a, n in zip(starts, lengths, strict=True)]


def some_rows(count: int = 8) -> Rows:
    return laid_out(documents(), 16).take(np.arange(count))


@cache
def drawn_params():
    return initial_params(CONFIG, 0)


def first_params():
    """A copy, as the first state uses its params up."""
    return jax.tree.map(jnp.copy, drawn_params())


@cache
def step_of(decoder: Decoder, parts: int):
    """Compiled once for all tests."""
    return train_step(decoder, OPTIMISATION)


def after(steps: int, rows: Rows, *, parts: int = 1, decoder: Decoder = Decoder(CONFIG)):  # noqa: B008
    """Params and the losses after some steps on the same rows."""
    mesh = local_mesh()
    state, advance = initial_state(first_params(), OPTIMISATION, mesh), step_of(decoder, parts)
    losses = []
    for _ in range(steps):
        state, metrics = advance(state, to_batch(rows, mesh, parts))
        losses.append(float(metrics.loss))
    assert advance._cache_size() == 1
    return state.params, losses


def assert_close(found, expected, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), found, expected)


@pytest.mark.slow
def test_training_learns():
    _, losses = after(40, some_rows())
    # Logits of unit deviation cost half a nat beyond an even guess, and a tied head's own token some more.
    assert 0.3 < losses[0] - np.log(40) < 1
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_the_loss_is_that_of_each_document_alone():
    params = jax.tree.map(lambda leaf: 5 * leaf, first_params())
    mesh, evaluate = local_mesh(), evaluation(Decoder(CONFIG))
    together, count = evaluate(params, to_batch(all_rows(documents(4), 16), mesh))
    alone = 0.0
    for document in documents(4):
        tokens = jnp.asarray(document.ids)[None]
        size = tokens.shape[1]
        slots = Slots(tokens, jnp.arange(size)[None], jnp.full((1, size), size))
        logits = Decoder(CONFIG).apply({"params": params}, slots, jnp.zeros((1, 1), int), method="full_forward")
        log_p = jax.nn.log_softmax(logits[0, :-1])
        alone -= float(log_p[jnp.arange(size - 1), document.ids[1:]].sum())
    assert float(together) == pytest.approx(alone, rel=1e-5)
    assert int(count) == sum(len(document.ids) - 1 for document in documents(4))


@pytest.mark.slow
def test_only_learnt_tokens_count():
    rows = some_rows()
    silent = dataclasses.replace(rows, learnt=np.zeros_like(rows.learnt))
    params, losses = after(3, silent)
    assert losses == [0, 0, 0]
    # Weight decay alone acts, and spares the embedding.
    np.testing.assert_array_equal(params["embedding"], first_params()["embedding"])
    assert (
        np.abs(params["blocks"]["mlp"]["up"]["weight"]).sum()
        < np.abs(first_params()["blocks"]["mlp"]["up"]["weight"]).sum()
    )


@pytest.mark.slow
def test_micro_batches_recomputed_blocks_and_blocks_laid_out_make_the_same_update():
    expected, _ = after(3, some_rows())
    assert_close(after(3, some_rows(), decoder=Decoder(CONFIG, unroll=True))[0], expected, 1e-5)
    assert_close(after(3, some_rows(), parts=4)[0], expected, 1e-5)
    assert_close(after(3, some_rows(), decoder=Decoder(CONFIG, remat=True))[0], expected, 1e-5)


@pytest.mark.slow
def test_bfloat16_computes_while_params_stay_float32():
    params, losses = after(40, some_rows(), decoder=Decoder(CONFIG, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    _, exact = after(40, some_rows())
    assert losses != exact
    assert losses == pytest.approx(exact, abs=0.1)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_final_fraction():
    rates = [float(OPTIMISATION.rate(step)) for step in range(51)]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[5] == pytest.approx(0.01)
    assert rates[50] == pytest.approx(0.001)
    assert sorted(rates[5:], reverse=True) == rates[5:]
    assert float(Optimisation(10, 1.0, 0).rate(0)) == 1.0


def test_gradients_are_clipped_by_their_global_norm():
    params = first_params()
    optimiser = dataclasses.replace(OPTIMISATION, clip=0.5).optimiser()
    large = jax.tree.map(lambda leaf: jnp.full_like(leaf, 10.0), params)
    _, moments = jax.jit(optimiser.update)(large, optimiser.init(params), params)
    first = optax.tree.get(moments, "mu")
    assert float(optax.tree.norm(first)) == pytest.approx(0.5 * (1 - OPTIMISATION.beta1), rel=1e-5)


def test_weight_decay_spares_norms_biases_and_the_embedding():
    config = dataclasses.replace(CONFIG, tied_head=False, qkv_bias=True, qk_norm="head")
    mask = decays(initial_params(config, 0))
    assert mask["head"]
    assert not mask["embedding"]
    assert not mask["final_norm"]["weight"]
    block = mask["blocks"]
    assert block["attention"]["q"] == {"weight": True, "bias": False}
    assert not block["attention"]["q_norm"]["weight"]
    assert not block["mlp_norm"]["weight"]
    assert block["mlp"]["down"]["weight"]


def test_what_writes_to_the_residual_begins_smaller():
    params = initial_params(dataclasses.replace(CONFIG, width=256, mlp_width=256), 0)
    scales = {name: float(jnp.std(params["blocks"]["mlp"][name]["weight"])) for name in ("up", "down")}
    assert scales["up"] == pytest.approx(1 / 16, rel=0.03)
    assert scales["down"] == pytest.approx(1 / 32, rel=0.03)


@pytest.mark.slow
def test_two_devices_compute_what_one_does(tmp_path):
    script = (
        "import sys, jax, numpy as np; from tests.pretraining.test_step import after, some_rows; "
        "assert jax.device_count() == 2; params, losses = after(3, some_rows()); np.savez(sys.argv[1], losses, "
        "params['embedding'])"
    )
    environment = os.environ | {"XLA_FLAGS": with_devices(2), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", script, tmp_path / "two.npz"], env=environment, cwd=ROOT, check=True)
    found = np.load(tmp_path / "two.npz")
    params, losses = after(3, some_rows())
    np.testing.assert_allclose(found["arr_0"], losses, rtol=1e-5)
    np.testing.assert_allclose(found["arr_1"], params["embedding"], atol=1e-5)
