"""ALiBi by way of two more dimensions of queries and keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.attention import attend, visible_slots
from jtrace.models.alibi import slopes, with_positions, with_slopes
from tests.conftest import relative_error

HIGHEST = jax.lax.Precision.HIGHEST


def test_slopes_of_a_power_of_two_are_powers_of_one_half():
    np.testing.assert_allclose(slopes(8), 0.5 ** np.arange(1, 9))


def test_slopes_between_are_every_second_one_of_twice_as_many_heads():
    np.testing.assert_allclose(slopes(6), [*0.25 ** np.arange(1, 5), 0.5, 0.125])


@pytest.mark.torch
@pytest.mark.parametrize("heads", [1, 4, 12, 16, 25, 32, 112])
def test_slopes_are_torch_s(heads):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    expected = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    np.testing.assert_allclose(slopes(heads), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("first", [0, 700])
def test_attention_is_that_of_logits_less_slope_times_distance(first):
    random = np.random.default_rng(0)
    q, k, v = (jnp.asarray(random.normal(size=(2, 9, heads, 8)), jnp.float32) for heads in (6, 2, 2))
    positions = jnp.tile(jnp.arange(first, first + 9, dtype=jnp.int32), (2, 1))
    visible = visible_slots(jnp.full((2, 9), 9), positions)
    computed = attend(with_slopes(q), with_positions(k, positions), v, visible, precision=HIGHEST)

    grouped = np.repeat(np.asarray(k, np.float64), 3, axis=2)
    logits = np.einsum("btnh,bsnh->bnts", np.asarray(q, np.float64), grouped) / np.sqrt(8)
    distance = np.arange(9)[:, None] - np.arange(9)
    logits = np.where(np.asarray(visible)[:, None], logits - slopes(6)[:, None, None] * distance, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("bnts,bsnh->btnh", weights, np.repeat(np.asarray(v, np.float64), 3, axis=2))
    # At position 700 a logit is of order 500, and float32 holds it to 3e-5.
    assert relative_error(computed, expected) < (1e-4 if first else 1e-6)


def test_bfloat16_holds_every_position_exactly():
    positions = jnp.arange(1 << 16, dtype=jnp.int32)[None]
    place = with_positions(jnp.zeros((1, 1 << 16, 1, 4), jnp.bfloat16), positions)[..., 4:]
    np.testing.assert_array_equal(place.astype(jnp.float32).sum(axis=-1)[0, :, 0], positions[0])
