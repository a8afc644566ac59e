"""The decoder against transformers' torch model, and what packing and intervening must not change."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.models.config import DecoderConfig, LayerKind, Rope
from jtrace.models.decoder import FEW_SLOTS, Decoder, Slots, abstract_params
from jtrace.models.intervention import Edit, Intervention
from jtrace.models.reading import RESIDUAL, SITES, Read
from jtrace.pretraining.step import initial_params
from tests.bars import within
from tests.conftest import relative_error
from tests.goldens.variants import COVERING

TOLERANCE = 1e-5  # relative Frobenius error, float32, every layer


def causal_slots(tokens: np.ndarray) -> Slots:
    """Plain causal rows: one sequence per row."""
    rows, width = tokens.shape
    positions = np.broadcast_to(np.arange(width, dtype=np.int32), (rows, width))
    return Slots(jnp.asarray(tokens), jnp.asarray(positions), jnp.full((rows, width), width, jnp.int32))


def every_slot(tokens: np.ndarray) -> jnp.ndarray:
    return jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)


def test_residuals_and_logits_equal_torch_in_every_layer(golden):
    expected = np.load(golden / "expected.npz")
    config, params = load_params(golden, jnp.float32)
    decoder, slots = Decoder(config), causal_slots(expected["tokens"])
    output = decoder.apply({"params": params}, slots, every_slot(expected["tokens"]))
    for layer in range(config.depth):
        error = relative_error(output.reads[RESIDUAL][layer], expected["residuals"][layer])
        within("residuals, goldens of torch, every layer", error, TOLERANCE)
    logits = decoder.apply({"params": params}, output.last, method="logits")
    within("logits, goldens of torch", relative_error(logits, expected["logits"]), TOLERANCE)


@pytest.mark.parametrize("golden", sorted(COVERING), indirect=True)
def test_what_attention_and_mlp_add_and_what_heads_read_equal_torch_s_in_every_layer(golden):
    expected, sites = np.load(golden / "expected.npz"), np.load(golden / "sites.npz")
    config, params = load_params(golden, jnp.float32)
    decoder = Decoder(config, reads=tuple(Read(site) for site in SITES))
    reads = decoder.apply({"params": params}, causal_slots(expected["tokens"]), every_slot(expected["tokens"])).reads
    for layer in range(config.depth):
        for site in ("attn", "mlp", "heads"):
            error = relative_error(reads[Read(site)][layer], sites[site][layer])
            within("sites, goldens of torch, every layer", error, TOLERANCE)
    residual = np.asarray(reads[RESIDUAL])
    added = np.asarray(reads[Read("attn")]) + np.asarray(reads[Read("mlp")])
    for layer in range(1, config.depth):
        within(
            "residual as the sum of what is added",
            relative_error(residual[layer - 1] + added[layer], residual[layer]),
            1e-6,
        )


@pytest.mark.slow
@pytest.mark.parametrize("golden", sorted(COVERING), indirect=True)
def test_bfloat16_follows_float32_to_its_own_precision(golden):
    expected = np.load(golden / "expected.npz")
    config, params = load_params(golden, jnp.bfloat16)
    output = Decoder(config, jnp.bfloat16).apply(
        {"params": params}, causal_slots(expected["tokens"]), every_slot(expected["tokens"])
    )
    assert output.reads[RESIDUAL].dtype == jnp.bfloat16
    # bfloat16 keeps 8 bits: 2⁻⁹ per rounding, and some twenty roundings in three blocks.
    if config.experts is None:
        assert relative_error(output.reads[RESIDUAL], expected["residuals"]) <= 20 * 2**-9
        return
    # Rounding sends a token to another expert where two are nearly as likely, so not every slot can follow.
    apart = np.asarray(output.reads[RESIDUAL], np.float32) - expected["residuals"]
    of_slots = np.linalg.norm(apart, axis=-1) / np.linalg.norm(expected["residuals"], axis=-1)
    assert np.median(of_slots, axis=(1, 2)).max() <= 20 * 2**-9
    assert np.mean(of_slots <= 20 * 2**-9) >= 0.9


@pytest.fixture
def tiny():
    config = DecoderConfig(
        vocab_size=50, width=16, heads=4, kv_heads=2, head_dim=4, mlp_width=24, context=64,
        layers=(LayerKind(Rope(10000.0)),) * 3, norm_eps=1e-5,
    )  # fmt: skip
    decoder = Decoder(config)
    tokens = np.random.default_rng(0).integers(0, 50, (2, 12)).astype(np.int32)
    slots = causal_slots(tokens)
    params = decoder.init(jax.random.key(0), slots, every_slot(tokens), method="full_forward")["params"]
    params = jax.tree.map(lambda p: p * 8, params)

    def forward(intervention=None):
        return decoder.apply({"params": params}, slots, every_slot(tokens), intervention)

    return config, forward


def adding(vector, strengths):
    """Condition c adds strengths[c] times the vector [L, D] in every layer."""
    depth, count = len(vector), len(strengths)
    vectors = jnp.broadcast_to(vector[:, None], (depth, count, vector.shape[1]))
    push = jnp.broadcast_to(jnp.asarray(strengths, jnp.float32), (depth, count))
    return Edit(vectors, push, jnp.zeros_like(push), jnp.zeros_like(push))


def test_strength_zero_changes_no_bit(tiny):
    config, forward = tiny
    plain = forward()
    edit = adding(jnp.ones((config.depth, config.width)), [0.0, 3.0])
    steered = forward(Intervention(edit, jnp.zeros((2, 12), jnp.int32)))
    np.testing.assert_array_equal(plain.reads[RESIDUAL], steered.reads[RESIDUAL])


def test_intervention_adds_strength_times_vector_to_one_block_output(tiny):
    config, forward = tiny
    vector = jnp.zeros((config.depth, config.width)).at[1].set(jnp.arange(config.width) / 10)
    condition = jnp.zeros((2, 12), jnp.int32).at[0, 5].set(1)
    plain, steered = (
        forward().reads[RESIDUAL],
        forward(Intervention(adding(vector, [0.0, -2.0]), condition)).reads[RESIDUAL],
    )
    np.testing.assert_array_equal(steered[0], plain[0])  # nothing below the layer changes
    np.testing.assert_allclose(steered[1, 0, 5], plain[1, 0, 5] - 2 * vector[1], rtol=1e-6)
    np.testing.assert_array_equal(steered[1, 0, :5], plain[1, 0, :5])
    np.testing.assert_array_equal(steered[:, 1], plain[:, 1])  # nor another row
    assert not np.allclose(steered[2, 0, 6], plain[2, 0, 6])  # later slots attend to the changed one
    np.testing.assert_array_equal(steered[2, 0, :5], plain[2, 0, :5])  # earlier ones do not


def test_an_intervention_of_other_layers_positions_strengths_or_operators_compiles_once(tiny):
    config, forward = tiny
    traces = []

    @jax.jit
    def run(intervention):
        traces.append(None)
        return forward(intervention).reads[RESIDUAL]

    for layer, strength in ((0, 1.0), (1, -2.0), (2, 0.0)):
        vector = jnp.zeros((config.depth, config.width)).at[layer].set(1.0)
        edit = adding(vector, [0.0, strength])
        for operator in (edit, edit._replace(push=edit.shrink, shrink=edit.push)):
            run(Intervention(operator, jnp.full((2, 12), layer % 2)))
    assert len(traces) == 1


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
def test_no_class_is_made_while_a_model_is_traced(tiny, monkeypatch, remat, unroll):
    """Flax changes a class's fields while it makes another of it, and sweeps trace models in several threads."""
    made = []
    monkeypatch.setattr(nn.Module, "__init_subclass__", classmethod(lambda cls, **_: made.append(cls.__name__)))
    config, one = tiny[0], jnp.zeros((1, 4), jnp.int32)
    decoder = Decoder(config, remat=remat, unroll=unroll)
    jax.eval_shape(decoder.init, jax.random.key(0), Slots(one, one, one + 4), one)
    assert made == []


def test_compile_time_does_not_grow_with_depth():
    """One scan: the program for 64 layers is as long as that for 2."""

    def program_length(depth):
        config = DecoderConfig(50, 16, 2, 2, 8, 24, 64, (LayerKind(Rope(1e4)),) * depth, 1e-5)
        one = jnp.zeros((1, 4), jnp.int32)
        params = abstract_params(config, jnp.float32)
        forward = jax.jit(lambda p: Decoder(config).apply({"params": p}, Slots(one, one, one + 4), one).reads[RESIDUAL])
        return len(forward.lower(params).as_text().splitlines())

    assert program_length(64) == program_length(2)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_few_slots_and_of_many_are_the_same(tied):
    """On a CPU they are products of another order."""
    config = DecoderConfig(50, 16, 4, 2, 4, 24, 64, (LayerKind(Rope(1e4)),), 1e-5, tied_head=tied)
    decoder, params = Decoder(config), initial_params(config, 0)
    slots = jax.random.normal(jax.random.key(0), (FEW_SLOTS + 1, 1, config.width))
    many, few = (decoder.apply({"params": params}, of, method="logits") for of in (slots, slots[:-1]))
    assert few.shape == (FEW_SLOTS, 1, config.vocab_size)
    assert relative_error(few, many[:-1]) <= 1e-6
