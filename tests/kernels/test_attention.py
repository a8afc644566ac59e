"""Attention over a prompt and a condition's own tokens is attention over the two laid out one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.kernels.attention import Keys, attend_to_past, visible_past

HIGHEST = jax.lax.Precision.HIGHEST
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


def test_bfloat16_stays_bfloat16():
    q, prompt, own = (jax.tree.map(lambda part: part.astype(jnp.bfloat16), part) for part in inputs())
    visible = visible_past(jnp.asarray(LENGTHS), jnp.int32(1), (PROMPT, OWN))
    found = attend_to_past(q, prompt, own, visible)
    assert found.dtype == jnp.bfloat16
    exact = attend_to_past(*inputs(), visible, precision=HIGHEST)
    np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.05)
