"""Gated MLPs of experts, each applied to the tokens that chose it.

Tokens are sorted by expert. On a CPU they are cut into tiles of one expert each, and a tile is a few small matrix
products, so that no token meets an expert that it did not choose; elsewhere `jax.lax.ragged_dot_general` does the same.
Axes: M tokens, C chosen experts of a token, E experts, D width, F width of an expert's MLP.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Rows of a tile: enough for products to be fast, few enough that little of an expert's last tile is empty.
WIDEST_TILE = 64


class ExpertWeights(NamedTuple):
    """Weights of all experts, down(activation(gate(x)) · up(x)), each [out, in]."""

    gate: Float[Array, "E F D"]
    up: Float[Array, "E F D"]
    down: Float[Array, "E D F"]


def apply_experts(
    x: Float[Array, "M D"],
    chosen: Int[Array, "M C"],
    weights: ExpertWeights,
    activation: Callable[[Array], Array],
    precision: jax.lax.Precision,
) -> Float[Array, "M C D"]:
    """Computes each token's output of each of its experts."""
    expert_of = chosen.ravel()
    order = jnp.argsort(expert_of, stable=True)
    sizes = jnp.bincount(expert_of, length=len(weights.gate))
    by = _in_tiles if jax.default_backend() == "cpu" else _ragged
    return by(x, expert_of, order, sizes, weights, activation, precision).reshape(*chosen.shape, x.shape[-1])


def _ragged(
    x: Array,
    expert_of: Array,
    order: Array,
    sizes: Array,
    weights: ExpertWeights,
    activation: Callable[[Array], Array],
    precision: jax.lax.Precision,
) -> Float[Array, "M·C D"]:
    by_expert = jax.lax.RaggedDotDimensionNumbers(
        dot_dimension_numbers=(([1], [2]), ([], [])), lhs_ragged_dimensions=[0], rhs_group_dimensions=[0]
    )

    def product(rows: Array, matrices: Array) -> Array:
        return jax.lax.ragged_dot_general(rows, matrices, sizes, by_expert, precision=precision)

    rows = x[order // (len(order) // len(x))]
    out = product(activation(product(rows, weights.gate)) * product(rows, weights.up), weights.down)
    return jnp.zeros_like(out).at[order].set(out)


def _in_tiles(
    x: Array,
    expert_of: Array,
    order: Array,
    sizes: Array,
    weights: ExpertWeights,
    activation: Callable[[Array], Array],
    precision: jax.lax.Precision,
) -> Float[Array, "M·C D"]:
    count, experts = len(order), len(sizes)
    tile = min(WIDEST_TILE, 1 << math.ceil(math.log2(max(1, count // experts))))
    most = count // tile + experts
    tiles_of = -(-sizes // tile)
    last = jnp.cumsum(tiles_of)
    sorted_expert = expert_of[order]
    within = jnp.arange(count) - (jnp.cumsum(sizes) - sizes)[sorted_expert]
    place = (last - tiles_of)[sorted_expert] * tile + within  # of each sorted row among all tiles' rows
    token = jnp.zeros(most * tile, order.dtype).at[place].set(order // (count // len(x)))

    def apply_one(given: tuple[Array, Array]) -> Array:
        tokens, at = given
        expert = jnp.minimum(jnp.searchsorted(last, at, side="right"), experts - 1)
        gate, up, down = (jax.lax.dynamic_index_in_dim(part, expert, keepdims=False) for part in weights)
        rows, product = x[tokens], partial(jnp.einsum, "mi,oi->mo", precision=precision)
        return product(activation(product(rows, gate)) * product(rows, up), down)

    def apply_used(given: tuple[Array, Array]) -> Array:
        nothing = jnp.zeros((tile, x.shape[-1]), x.dtype)
        return jax.lax.cond(given[1] < last[-1], apply_one, lambda _: nothing, given)

    out = jax.lax.map(apply_used, (token.reshape(most, tile), jnp.arange(most)))
    return out.reshape(most * tile, -1)[jnp.zeros(count, place.dtype).at[order].set(place)]
