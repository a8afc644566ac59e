"""Attention in tiles is attention in one piece, and attention to the past is that to one row laid out in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.inference.packing import pack
from jtrace.kernels.attention import (
    Keys,
    attend,
    attend_back,
    attend_to_past,
    visible_kept,
    visible_past,
    visible_slots,
)
from tests.cases import few
from tests.conftest import relative_error

HIGHEST = jax.lax.Precision.HIGHEST
in_tiles, whole = (jax.jit(attention, static_argnames="precision") for attention in (attend_back, attend))
ROWS, CONDITIONS, PROMPT, OWN, KEYS, HEADS, SIZE = 3, 2, 6, 4, 2, 4, 8
LENGTHS = np.array([0, 3, 6], np.int32)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs():
    """The newest tokens' queries, and keys of prompts and of what came after; also where nothing has been put yet."""
    prompt = Keys(*(normal(ROWS, PROMPT, KEYS, SIZE, seed=seed) for seed in (1, 2)))
    own = Keys(*(normal(ROWS, CONDITIONS, OWN, KEYS, SIZE, seed=seed) for seed in (3, 4)))
    return normal(ROWS, CONDITIONS, HEADS, SIZE), prompt, own


def in_one_row(row, condition, held, window, q, prompt, own):
    """Prompt and own tokens as one causal row, of which the last slot asks; in float64."""
    k, v = (
        np.concatenate([a[row, : LENGTHS[row]], b[row, condition, : held + 1]]).astype(np.float64)[-(window or 100) :]
        for a, b in zip(prompt, own, strict=True)
    )
    found = []
    for head, asking in enumerate(np.asarray(q[row, condition], np.float64)):
        group = head // (HEADS // KEYS)
        weights = np.exp(k[:, group] @ asking / np.sqrt(SIZE))
        found.append(weights @ v[:, group] / weights.sum())
    return np.stack(found)


@pytest.mark.parametrize("held", [0, 1, 3])
@pytest.mark.parametrize("window", [None, 1, 2, 5, 100])
def test_the_past_is_attended_to_as_one_row(held, window):
    q, prompt, own = inputs()
    visible = visible_past(jnp.asarray(LENGTHS), jnp.int32(held), (PROMPT, OWN), window)
    found = attend_to_past(q, prompt, own, visible, precision=HIGHEST)
    prompt, own = (Keys(*map(np.asarray, keys)) for keys in (prompt, own))
    for row, condition in np.ndindex(ROWS, CONDITIONS):
        expected = in_one_row(row, condition, held, window, q, prompt, own)
        np.testing.assert_allclose(found[row, condition], expected, atol=1e-6)


def test_what_lies_beyond_the_prompt_and_ahead_is_not_seen():
    q, prompt, own = inputs()
    visible = visible_past(jnp.asarray(LENGTHS), jnp.int32(1), (PROMPT, OWN))
    beyond = (np.arange(PROMPT) >= LENGTHS[:, None])[..., None, None]
    other_prompt = Keys(*(jnp.where(beyond, 7.0, part) for part in prompt))
    other_own = Keys(*(part.at[:, :, 2:].set(-7.0) for part in own))
    one = attend_to_past(q, prompt, own, visible, precision=HIGHEST)
    np.testing.assert_array_equal(one, attend_to_past(q, other_prompt, other_own, visible, precision=HIGHEST))


def test_conditions_do_not_see_each_other_s_tokens():
    q, prompt, own = inputs()
    visible = visible_past(jnp.asarray(LENGTHS), jnp.int32(2), (PROMPT, OWN))
    other = Keys(*(part.at[:, 1].set(9.0) for part in own))
    one, changed = (attend_to_past(q, prompt, keys, visible, precision=HIGHEST) for keys in (own, other))
    np.testing.assert_array_equal(one[:, 0], changed[:, 0])
    assert (one[:, 1] != changed[:, 1]).any()


def test_visible_past_by_hand():
    def seen(length, held, window=None):
        (row,) = visible_past(jnp.array([length]), jnp.int32(held), (4, 3), window)
        return "".join(str(int(slot)) for slot in row)

    # Four slots of the prompt, then three own ones.
    assert seen(4, 0) == "1111100"
    assert seen(2, 0) == "1100100"
    assert seen(2, 2) == "1100111"
    assert seen(0, 1) == "0000110"
    # A window is counted over the border, from the prompt's end on, whatever room lies between.
    assert seen(2, 1, window=3) == "0100110"
    assert seen(4, 2, window=2) == "0000011"
    assert seen(3, 2, window=4) == "0010111"


def test_visible_kept_by_hand():
    def seen(held, newest, window=None):
        rows = visible_kept(jnp.int32(held), (2, newest, 6), window)
        assert (rows[0] == rows[1]).all()
        return ["".join(str(int(slot)) for slot in row) for row in rows[0]]

    assert seen(0, 3) == ["100000", "110000", "111000"]
    assert seen(4, 2) == ["111110", "111111"]
    assert seen(3, 2, window=2) == ["001100", "000110"]


def test_bfloat16_stays_bfloat16():
    q, prompt, own = (jax.tree.map(lambda part: part.astype(jnp.bfloat16), part) for part in inputs())
    visible = visible_past(jnp.asarray(LENGTHS), jnp.int32(1), (PROMPT, OWN))
    found = attend_to_past(q, prompt, own, visible)
    assert found.dtype == jnp.bfloat16
    exact = attend_to_past(*inputs(), visible, precision=HIGHEST)
    np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.05)


def trees(width, window=None):
    """What the slots of two rows see: trees of sequences that share stems, and padding at the end."""
    random = np.random.default_rng(width)
    longest = max(2, width // 3)
    stems = random.integers(0, 50, (4, longest))
    grown = [stem[:size] for stem in stems for size in random.integers(1, longest, 6)]
    own = [np.append(ids, 100 + i) for i, ids in enumerate(grown) if len(ids) < width]
    packed = pack([*own, *stems[:, :width]], width)
    return visible_slots(jnp.asarray(packed.ends[:2]), jnp.asarray(packed.positions[:2]), window)


def whole_rows(visible, dtype=jnp.float32):
    rows, width = visible.shape[:2]
    return [normal(rows, width, count, SIZE, seed=count + at).astype(dtype) for at, count in enumerate((4, 2, 2))]


def in_one_piece(q, k, v, visible):
    """softmax(q kᵀ / √H) v in float64, over all pairs of slots."""
    q, k, v = (np.asarray(part, np.float64) for part in (q, k, v))
    k, v = (part.repeat(q.shape[2] // k.shape[2], axis=2) for part in (k, v))
    logits = np.where(np.asarray(visible)[:, None], np.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(SIZE), -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.einsum("bnts,bsnh->btnh", weights / weights.sum(axis=-1, keepdims=True), v)


@pytest.mark.parametrize("window", [None, 3, 50])
@pytest.mark.parametrize("width", few([65, 1, 63, 64, 130, 300], 2))
def test_tiles_are_attention_in_one_piece(width, window):
    visible = trees(width, window)
    qkv = whole_rows(visible)
    found = in_tiles(*qkv, visible, precision=HIGHEST)
    assert relative_error(found, in_one_piece(*qkv, visible)) <= 1e-6
    assert relative_error(found, whole(*qkv, visible, precision=HIGHEST)) <= 1e-6


def test_tiles_of_bfloat16_round_weights_and_result_alone():
    visible = trees(300)
    qkv = whole_rows(visible, jnp.bfloat16)
    found = in_tiles(*qkv, visible)
    assert found.dtype == jnp.bfloat16
    # 2⁻⁹ for each of the two.
    assert relative_error(found.astype(jnp.float32), in_one_piece(*qkv, visible)) <= 2 * 2**-9


def test_a_tile_never_meets_later_keys():
    visible = trees(128)
    q, k, v = whole_rows(visible)
    found = in_tiles(q, k.at[:, 64:].set(jnp.nan), v.at[:, 64:].set(jnp.nan), visible)
    assert jnp.isfinite(found[:, :64]).all()
    assert jnp.isnan(found[:, 64:]).all()


def test_the_gradient_of_tiles_is_that_of_a_plain_softmax():
    visible = trees(130)
    qkv = whole_rows(visible)

    def plain(q, k, v):
        k, v = (part.repeat(2, axis=2) for part in (k, v))
        logits = jnp.einsum("btnh,bsnh->bnts", q, k, precision=HIGHEST) / np.sqrt(SIZE)
        weights = jax.nn.softmax(jnp.where(visible[:, None], logits, -1e30))
        return (jnp.einsum("bnts,bsnh->btnh", weights, v, precision=HIGHEST) ** 2).sum()

    def tiled(q, k, v):
        return (attend_back(q, k, v, visible, precision=HIGHEST) ** 2).sum()

    gradients = (jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*qkv) for loss in (tiled, plain))
    for found, expected in zip(*gradients, strict=True):
        assert relative_error(found, expected) <= 1e-5


def test_large_logits_do_not_overflow():
    visible = trees(130)
    q, k, v = whole_rows(visible)
    found = in_tiles(q * 1e4, k, v, visible, precision=HIGHEST)
    # Logits of 1e4 are rounded at 1e-3.
    np.testing.assert_allclose(found, in_one_piece(q * 1e4, k, v, visible), atol=1e-2)


def test_a_slot_that_sees_nothing_gets_the_mean():
    q, k, v = whole_rows(trees(65))
    found = whole(q, k, v, jnp.zeros((2, 65, 65), bool))
    np.testing.assert_allclose(
        found, jnp.broadcast_to(v.mean(axis=1, keepdims=True).repeat(2, axis=2), q.shape), atol=1e-6
    )
