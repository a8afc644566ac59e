"""Cross entropy of next tokens, a few slots at a time: logits of the whole batch are never in memory.

The gradient of a loss by its logits has a closed form, so it is computed together with the logits, and nothing is
computed twice. Axes: B rows, T slots, D width, V vocabulary.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jtrace.kernels.attention import capped


@partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def summed_cross_entropy(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    learnt: Bool[Array, "B T"],
    tokens_at_once: int,
    precision: jax.lax.Precision,
    cap: float | None = None,
) -> Float[Array, ""]:
    """Sums, over the learnt slots, the targets' negative log-probability in nats under softmax(hidden headᵀ).

    Args:
        tokens_at_once: the most slots whose logits are in memory at a time, as far as divisors of T allow.
        cap: a soft bound on logits; see `capped`.
    """

    def add(total: Array, some: tuple[Array, ...]) -> tuple[Array, None]:
        part, wanted, counts = some
        losses, _ = _losses(part, head, wanted, precision, cap)
        return total + jnp.sum(jnp.where(counts, losses, 0.0)), None

    return jax.lax.scan(add, jnp.float32(0), _split(tokens_at_once, hidden, targets, learnt))[0]


def _forward(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    learnt: Bool[Array, "B T"],
    tokens_at_once: int,
    precision: jax.lax.Precision,
    cap: float | None,
) -> tuple[Float[Array, ""], tuple[Array, Array]]:
    """Computes the loss, and its gradients by `hidden` and `head`."""

    def add(total: tuple[Array, Array], some: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        (loss, by_head), (part, wanted, counts) = total, some
        losses, by_logits = _losses(part, head, wanted, precision, cap)
        by_logits = jnp.where(counts[..., None], by_logits, 0.0).astype(head.dtype)
        product = partial(jnp.einsum, precision=precision, preferred_element_type=jnp.float32)
        by_head = by_head + product("btv,btd->vd", by_logits, part)
        by_part = product("btv,vd->btd", by_logits, head).astype(part.dtype)
        return (loss + jnp.sum(jnp.where(counts, losses, 0.0)), by_head), by_part

    nothing = (jnp.float32(0), jnp.zeros(head.shape, jnp.float32))
    (loss, by_head), by_hidden = jax.lax.scan(add, nothing, _split(tokens_at_once, hidden, targets, learnt))
    return loss, (jnp.moveaxis(by_hidden, 0, 1).reshape(hidden.shape), by_head.astype(head.dtype))


def _backward(
    tokens_at_once: int,
    precision: jax.lax.Precision,
    cap: float | None,
    gradients: tuple[Array, Array],
    cotangent: Array,
) -> tuple[Array, Array, None, None]:
    by_hidden, by_head = gradients
    return by_hidden * cotangent.astype(by_hidden.dtype), by_head * cotangent.astype(by_head.dtype), None, None


summed_cross_entropy.defvjp(_forward, _backward)


def _losses(
    hidden: Array, head: Array, targets: Array, precision: jax.lax.Precision, cap: float | None
) -> tuple[Array, Array]:
    """Computes each slot's loss, and its gradient by every uncapped logit."""
    products = jnp.einsum("btd,vd->btv", hidden, head, precision=precision, preferred_element_type=jnp.float32)
    logits = capped(products, cap)
    shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
    exponentials = jnp.exp(shifted)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    chosen = jnp.take_along_axis(shifted, targets[..., None], axis=-1)
    by_logits = exponentials / total - (jnp.arange(head.shape[0]) == targets[..., None])
    if cap is not None:
        by_logits *= 1 - (logits / cap) ** 2
    return (jnp.log(total) - chosen)[..., 0], by_logits


def _split(tokens_at_once: int, *arrays: Array) -> tuple[Array, ...]:
    """Cuts along the slots, so that rows on different devices stay where they are."""
    rows, slots = arrays[0].shape[:2]
    width = max(n for n in range(1, slots + 1) if slots % n == 0 and (n == 1 or rows * n <= tokens_at_once))
    return tuple(jnp.moveaxis(a.reshape(rows, slots // width, width, *a.shape[2:]), 1, 0) for a in arrays)


def log_normalisers(
    hidden: Float[Array, "R D"],
    head: Float[Array, "V D"],
    rows_at_once: int,
    precision: jax.lax.Precision,
    cap: float | None = None,
) -> Float[Array, " R"]:
    """Computes log Σ exp(hidden headᵀ) of every row, in float32.

    Args:
        rows_at_once: the most rows whose logits are in memory at a time, as far as divisors of R allow.
        cap: a soft bound on logits; see `capped`.
    """
    return _of_logits(partial(jax.nn.logsumexp, axis=-1), hidden, head, rows_at_once, precision, cap)


def log_normalisers_and_likeliest(
    hidden: Float[Array, "R D"],
    head: Float[Array, "V D"],
    rows_at_once: int,
    precision: jax.lax.Precision,
    cap: float | None = None,
) -> tuple[Float[Array, " R"], Int[Array, " R"]]:
    """Computes `log_normalisers`, and the token of each row's highest logit: the first of equals."""

    def of_some(logits: Array) -> tuple[Array, Array]:
        return jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1)

    return _of_logits(of_some, hidden, head, rows_at_once, precision, cap)


def _of_logits(
    compute: Callable[[Array], Any],
    hidden: Array,
    head: Array,
    rows_at_once: int,
    precision: jax.lax.Precision,
    cap: float | None,
) -> Any:
    """Computes something of every row's logits, of which no more than `rows_at_once` rows are in memory at a time."""

    def of_some(part: Array) -> Any:
        products = jnp.einsum("rd,vd->rv", part, head, precision=precision, preferred_element_type=jnp.float32)
        return compute(capped(products, cap))

    (parts,) = _split(rows_at_once, hidden[None])
    return jax.tree.map(lambda computed: computed.reshape(-1), jax.lax.map(of_some, parts[:, 0]))
