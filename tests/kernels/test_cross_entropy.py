"""The loss and the normalisers that never hold all logits, against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jtrace.kernels.cross_entropy import log_normalisers, summed_cross_entropy

HIGHEST = jax.lax.Precision.HIGHEST


def inputs(dtype=jnp.float32):
    random = np.random.default_rng(0)
    hidden, head = (jnp.asarray(random.normal(size=shape), dtype) for shape in ((3, 12, 8), (50, 8)))
    return hidden, head, jnp.asarray(random.integers(0, 50, (3, 12))), jnp.asarray(random.random((3, 12)) < 0.7)


def plain(hidden, head, targets, learnt, cap=None):
    logits = jnp.einsum("btd,vd->btv", hidden, head, precision=HIGHEST)
    logits = logits if cap is None else cap * jnp.tanh(logits / cap)
    return jnp.sum(jnp.where(learnt, optax.softmax_cross_entropy_with_integer_labels(logits, targets), 0.0))


@pytest.mark.parametrize("tokens_at_once", [1, 7, 12, 1000])
@pytest.mark.slow
def test_loss_and_gradients_are_those_of_the_whole_batch_at_once(tokens_at_once):
    hidden, head, targets, learnt = inputs()

    def ours(hidden, head):
        return 3 * summed_cross_entropy(hidden, head, targets, learnt, tokens_at_once, HIGHEST)

    found, by = jax.value_and_grad(ours, argnums=(0, 1))(hidden, head)
    expected, expected_by = jax.value_and_grad(lambda *a: 3 * plain(*a, targets, learnt), argnums=(0, 1))(hidden, head)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert float(ours(hidden, head)) == pytest.approx(float(expected), rel=1e-6)
    for a, b in zip(by, expected_by, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()))


def test_a_soft_bound_on_logits_is_in_loss_gradients_and_normalisers():
    hidden, head, targets, learnt = inputs()

    def ours(hidden, head):
        return summed_cross_entropy(hidden, head, targets, learnt, 7, HIGHEST, 2.0)

    computed, by = jax.value_and_grad(ours, argnums=(0, 1))(hidden, head)
    expected, expected_by = jax.value_and_grad(lambda *a: plain(*a, targets, learnt, 2.0), argnums=(0, 1))(hidden, head)
    assert float(computed) == pytest.approx(float(expected), rel=1e-6)
    for a, b in zip(by, expected_by, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6 * float(jnp.abs(b).max()))
    bounded = 2 * jnp.tanh(jnp.einsum("td,vd->tv", hidden[0], head, precision=HIGHEST) / 2)
    np.testing.assert_allclose(
        log_normalisers(hidden[0], head, 5, HIGHEST, 2.0), jax.nn.logsumexp(bounded, axis=-1), rtol=1e-6
    )


def test_large_logits_neither_overflow_nor_vanish():
    hidden, head, targets, learnt = inputs()
    loss = summed_cross_entropy(1e4 * hidden, head, targets, learnt, 6, HIGHEST)
    assert float(loss) == pytest.approx(float(plain(1e4 * hidden, head, targets, learnt)), rel=1e-5)


def test_bfloat16_is_summed_in_float32():
    hidden, head, targets, learnt = inputs(jnp.bfloat16)
    found, by_head = jax.value_and_grad(summed_cross_entropy, 1)(hidden, head, targets, learnt, 6, HIGHEST)
    exact = [array.astype(jnp.float32) for array in (hidden, head)]
    expected, expected_by_head = jax.value_and_grad(plain, 1)(*exact, targets, learnt)
    assert by_head.dtype == jnp.bfloat16
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(
        by_head.astype(jnp.float32), expected_by_head, atol=0.02 * np.abs(expected_by_head).max()
    )


def test_slots_that_are_not_learnt_have_no_gradient():
    hidden, head, targets, learnt = inputs()
    by_hidden = jax.grad(summed_cross_entropy)(hidden, head, targets, learnt, 6, HIGHEST)
    assert not by_hidden[~learnt].any()
    assert by_hidden[learnt].all()


@pytest.mark.parametrize("rows_at_once", [1, 5, 12, 1000])
@pytest.mark.parametrize("rows", [1, 7, 12])
def test_normalisers_are_those_of_all_rows_at_once(rows, rows_at_once):
    hidden, head, *_ = inputs()
    hidden = hidden.reshape(-1, 8)[:rows]
    exact = np.asarray(hidden, np.float64) @ np.asarray(head, np.float64).T
    found = log_normalisers(hidden, head, rows_at_once, HIGHEST)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.logaddexp.reduce(exact, axis=-1), rtol=1e-6)


def test_normalisers_of_large_logits_neither_overflow_nor_vanish():
    hidden, head, *_ = inputs()
    hidden = 1e4 * hidden[0]
    exact = np.asarray(hidden, np.float64) @ np.asarray(head, np.float64).T
    np.testing.assert_allclose(log_normalisers(hidden, head, 6, HIGHEST), exact.max(axis=-1), rtol=1e-6)


def test_normalisers_of_bfloat16_are_summed_in_float32():
    hidden, head, *_ = inputs(jnp.bfloat16)
    exact = np.asarray(hidden[0], np.float64) @ np.asarray(head, np.float64).T
    found = log_normalisers(hidden[0], head, 6, HIGHEST)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.logaddexp.reduce(exact, axis=-1), rtol=1e-5)
