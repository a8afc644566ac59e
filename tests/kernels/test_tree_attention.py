"""The kernel for packed trees is attention as XLA works it out, and does not touch what no slot can see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.inference.packing import pack
from jtrace.kernels.attention import attend, visible_slots
from jtrace.kernels.tree_attention import TILE, seen_tiles, tree_attend
from jtrace.models.alibi import with_positions, with_slopes
from tests.bars import within
from tests.cases import few
from tests.conftest import relative_error

HIGHEST = jax.lax.Precision.HIGHEST
whole = jax.jit(attend, static_argnames=("precision", "cap"))
ROWS, WIDTH = 2, 200  # three whole tiles, and some of a fourth

# Stem, how much of it, how many tokens of its own: shared, nested and lone sequences, shorter and longer than a tile.
sequences = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 110), st.integers(1, 90)), min_size=1, max_size=12)
windows = st.none() | st.integers(1, WIDTH)
property_based = settings(max_examples=12, deadline=None)


def packed(drawn, width=WIDTH):
    """Ends and positions of the first rows of a packing; what it does not fill are padding slots."""
    own = iter(range(1000, 100_000))
    packing = pack([np.array([1 + stem] * shared + [next(own)] * fresh) for stem, shared, fresh in drawn], width)
    ends, positions = np.tile(np.arange(1, width + 1, dtype=np.int32), (ROWS, 1)), np.zeros((ROWS, width), np.int32)
    rows = min(ROWS, packing.rows)
    ends[:rows], positions[:rows] = packing.ends[:rows], packing.positions[:rows]
    return jnp.asarray(ends), jnp.asarray(positions)


def causal(width):
    """Plain rows of one sequence."""
    return jnp.full((ROWS, width), width, jnp.int32), jnp.tile(jnp.arange(width, dtype=jnp.int32), (ROWS, 1))


def inputs(heads, kv_heads, head_dim, width=WIDTH, dtype=jnp.float32):
    random = np.random.default_rng(0)
    shapes = [(ROWS, width, count, head_dim) for count in (heads, kv_heads, kv_heads)]
    return [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]


def by_xla(q, k, v, ends, positions, window=None, cap=None):
    q, k, v = (part.astype(jnp.float32) for part in (q, k, v))
    return whole(q, k, v, visible_slots(ends, positions, window), precision=HIGHEST, cap=cap)


def test_a_soft_bound_and_keys_that_say_their_positions_are_attention_s():
    (q, k, v), tree = inputs(4, 2, 20), packed([(0, 3, 70), (0, 3, 90), (1, 5, 60)])
    q, k = with_slopes(4 * q), with_positions(k, tree[1])
    computed = tree_attend(q, k, v, *tree, interpret=True, cap=1.5)
    assert computed.shape == (*v.shape[:2], 4, 20)
    within("tree attention, bounded, with positions", relative_error(computed, by_xla(q, k, v, *tree, cap=1.5)), 1e-6)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), few([(4, 2, 64), (2, 2, 128), (3, 1, 20)]))
@property_based
@given(drawn=sequences, window=windows)
def test_float32_is_attention_over_visible_slots(heads, kv_heads, head_dim, drawn, window):
    qkv, tree = inputs(heads, kv_heads, head_dim), packed(drawn)
    # A number of its own for each window would compile again.
    found = tree_attend(*qkv, *tree, jnp.int32(window or WIDTH), interpret=True)
    assert found.dtype == jnp.float32
    within("tree attention against XLA", relative_error(found, by_xla(*qkv, *tree, window)), 1e-5)


@property_based
@given(drawn=sequences, window=windows)
@pytest.mark.slow
def test_bfloat16_rounds_weights_and_result_alone(drawn, window):
    qkv, tree = inputs(4, 2, 64, dtype=jnp.bfloat16), packed(drawn)
    found = tree_attend(*qkv, *tree, jnp.int32(window or WIDTH), interpret=True)
    assert found.dtype == jnp.bfloat16
    # 2⁻⁹ for each of the two.
    assert relative_error(found.astype(jnp.float32), by_xla(*qkv, *tree, window)) <= 2 * 2**-9


@pytest.mark.parametrize("width", [1, TILE, TILE + 1])
def test_rows_of_any_width_without_a_window(width):
    qkv, tree = inputs(2, 1, 16, width), causal(width)
    assert relative_error(tree_attend(*qkv, *tree, interpret=True), by_xla(*qkv, *tree)) <= 1e-5


def test_large_logits_do_not_overflow():
    q, k, v = inputs(2, 2, 16)
    found = tree_attend(q * 1e3, k, v, *causal(WIDTH), interpret=True)
    assert relative_error(found, by_xla(q * 1e3, k, v, *causal(WIDTH))) <= 1e-5


@property_based
@given(drawn=sequences, window=windows)
def test_tiles_that_some_slot_sees_are_listed_and_without_a_window_no_others(drawn, window):
    ends, positions = packed(drawn, 4 * TILE)
    tiles, counts = map(np.asarray, seen_tiles(ends, positions, window or 4 * TILE))
    visible = np.asarray(visible_slots(ends, positions, window)).reshape(ROWS, 4, TILE, 4, TILE).any(axis=(2, 4))
    for row, seeing in np.ndindex(ROWS, 4):
        listed = tiles[row, seeing, : counts[row, seeing]].tolist()
        needed = np.flatnonzero(visible[row, seeing]).tolist()
        assert listed == sorted(set(listed))
        assert listed == needed if window is None else set(needed) <= set(listed) <= set(range(seeing + 1))


def poisoned(q, k, v, tile):
    """NaN in all keys and values of a tile: whoever multiplies them, even by 0, gets NaN."""
    part = slice(tile * TILE, (tile + 1) * TILE)
    return q, k.at[:, part].set(jnp.nan), v.at[:, part].set(jnp.nan)


def test_another_tree_s_tile_is_skipped():
    qkv = inputs(2, 1, 16, 3 * TILE)
    slot = jnp.tile(jnp.arange(3 * TILE, dtype=jnp.int32), (ROWS, 1))
    tree = jnp.where(slot < TILE, TILE, 3 * TILE), slot - jnp.where(slot < TILE, 0, TILE)
    found, exact = (tree_attend(*each, *tree, interpret=True) for each in (poisoned(*qkv, tile=0), qkv))
    np.testing.assert_array_equal(found[:, TILE:], exact[:, TILE:])
    assert jnp.isnan(found[:, :TILE]).all()
    assert jnp.isnan(by_xla(*poisoned(*qkv, tile=0), *tree)).all()


def test_later_tiles_and_those_behind_the_window_are_skipped():
    qkv, tree = inputs(2, 1, 16, 4 * TILE), causal(4 * TILE)
    found, exact = (tree_attend(*each, *tree, 10, interpret=True) for each in (poisoned(*qkv, tile=1), qkv))
    np.testing.assert_array_equal(found[:, :TILE], exact[:, :TILE])
    np.testing.assert_array_equal(found[:, 3 * TILE :], exact[:, 3 * TILE :])


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="newer JAX lowers for a GPU only where there is one")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_kernel_is_made_for_a_gpu_though_none_is_here(dtype):
    lowered = tree_attend.trace(*inputs(4, 2, 80, dtype=dtype), *causal(WIDTH)).lower(lowering_platforms=("cuda",))
    assert "tree_attend" in lowered.as_text()
