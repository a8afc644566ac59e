"""Experts applied to the tokens that chose them, in tiles and by ragged products, against all experts on all tokens."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.experts import WIDEST_TILE, ExpertWeights, apply_experts
from tests.conftest import relative_error

HIGHEST = jax.lax.Precision.HIGHEST


def inputs(tokens, chosen, experts, width=12, mlp_width=20, seed=0):
    random = np.random.default_rng(seed)
    shapes = (experts, mlp_width, width), (experts, mlp_width, width), (experts, width, mlp_width)
    weights = ExpertWeights(*(jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes))
    # Uneven: the first experts are chosen most, and some by nobody.
    ranked = np.argsort(random.random((tokens, experts)) * np.arange(1, experts + 1) ** 2, axis=1)
    return jnp.asarray(random.normal(size=(tokens, width)), jnp.float32), jnp.asarray(ranked[:, :chosen]), weights


def on_all(x, chosen, weights):
    """Every expert on every token, in float64; then those that were chosen."""
    x, gate, up, down = (np.asarray(part, np.float64) for part in (x, *weights))
    through = np.einsum("md,efd->mef", x, gate)
    inner = through / (1 + np.exp(-through)) * np.einsum("md,efd->mef", x, up)
    return np.take_along_axis(np.einsum("mef,edf->med", inner, down), np.asarray(chosen)[..., None], axis=1)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(("tokens", "chosen", "experts"), [(1, 1, 8), (7, 2, 8), (300, 3, 5), (2 * WIDEST_TILE, 1, 1)])
def test_each_token_meets_its_own_experts(backend, tokens, chosen, experts):
    given = inputs(tokens, chosen, experts)
    with mock.patch.object(jax, "default_backend", return_value=backend):
        computed = apply_experts(*given, jax.nn.silu, HIGHEST)
    assert relative_error(computed, on_all(*given)) < 1e-6


def test_a_gradient_reaches_tokens_and_weights_of_chosen_experts_alone():
    x, chosen, weights = inputs(40, 2, 6)
    chosen = jnp.where(chosen == 5, 0, chosen)  # a token may meet one expert twice; nobody meets the last

    def summed(x, weights):
        return jnp.sum(apply_experts(x, chosen, weights, jax.nn.silu, HIGHEST) ** 2)

    def plainly(x, weights):
        gate, up, down = (part[chosen] for part in weights)
        inner = jax.nn.silu(jnp.einsum("md,mcfd->mcf", x, gate)) * jnp.einsum("md,mcfd->mcf", x, up)
        return jnp.sum(jnp.einsum("mcf,mcdf->mcd", inner, down) ** 2)

    with jax.default_matmul_precision("highest"):
        by_x, by_weights = jax.grad(summed, (0, 1))(x, weights)
        expected_x, expected_weights = jax.grad(plainly, (0, 1))(x, weights)
    assert relative_error(by_x, expected_x) < 1e-5
    for computed, expected in zip(by_weights, expected_weights, strict=True):
        assert relative_error(computed, expected) < 1e-5
        assert not np.asarray(computed[5]).any()
