"""Cross entropy of next tokens, a few slots at a time: logits of the whole batch are never in memory.

The gradient of a loss by its logits is in closed form, so it is taken where the logits are and nothing is computed
twice. Axes: B rows, T slots, D width, V vocabulary.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def summed_cross_entropy(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    learnt: Bool[Array, "B T"],
    tokens_at_once: int,
    precision: jax.lax.Precision,
) -> Float[Array, ""]:
    """Negative log-probability in nats of the targets under softmax(hidden headᵀ), summed over the learnt slots.

    Args:
        tokens_at_once: how many logits there are at a time, in vocabularies, as far as T can be divided so.
    """

    def add(total: Array, some: tuple[Array, ...]) -> tuple[Array, None]:
        part, wanted, counts = some
        losses, _ = _losses(part, head, wanted, precision)
        return total + jnp.sum(jnp.where(counts, losses, 0.0)), None

    return jax.lax.scan(add, jnp.float32(0), _split(tokens_at_once, hidden, targets, learnt))[0]


def _forward(
    hidden: Float[Array, "B T D"],
    head: Float[Array, "V D"],
    targets: Int[Array, "B T"],
    learnt: Bool[Array, "B T"],
    tokens_at_once: int,
    precision: jax.lax.Precision,
) -> tuple[Float[Array, ""], tuple[Array, Array]]:
    """The loss, and its gradients by `hidden` and `head`."""

    def add(total: tuple[Array, Array], some: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        (loss, by_head), (part, wanted, counts) = total, some
        losses, probabilities = _losses(part, head, wanted, precision)
        hit = jnp.arange(head.shape[0]) == wanted[..., None]
        by_logits = jnp.where(counts[..., None], probabilities - hit, 0.0).astype(head.dtype)
        product = partial(jnp.einsum, precision=precision, preferred_element_type=jnp.float32)
        by_head = by_head + product("btv,btd->vd", by_logits, part)
        by_part = product("btv,vd->btd", by_logits, head).astype(part.dtype)
        return (loss + jnp.sum(jnp.where(counts, losses, 0.0)), by_head), by_part

    nothing = (jnp.float32(0), jnp.zeros(head.shape, jnp.float32))
    (loss, by_head), by_hidden = jax.lax.scan(add, nothing, _split(tokens_at_once, hidden, targets, learnt))
    return loss, (jnp.moveaxis(by_hidden, 0, 1).reshape(hidden.shape), by_head.astype(head.dtype))


def _backward(
    tokens_at_once: int, precision: jax.lax.Precision, gradients: tuple[Array, Array], cotangent: Array
) -> tuple[Array, Array, None, None]:
    by_hidden, by_head = gradients
    return by_hidden * cotangent.astype(by_hidden.dtype), by_head * cotangent.astype(by_head.dtype), None, None


summed_cross_entropy.defvjp(_forward, _backward)


def _losses(hidden: Array, head: Array, targets: Array, precision: jax.lax.Precision) -> tuple[Array, Array]:
    """Each slot's loss, and the probability of every token."""
    logits = jnp.einsum("btd,vd->btv", hidden, head, precision=precision, preferred_element_type=jnp.float32)
    shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
    exponentials = jnp.exp(shifted)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    chosen = jnp.take_along_axis(shifted, targets[..., None], axis=-1)
    return (jnp.log(total) - chosen)[..., 0], exponentials / total


def _split(tokens_at_once: int, *arrays: Array) -> tuple[Array, ...]:
    """Cut along the slots, so that rows that are spread over devices stay where they are."""
    rows, slots = arrays[0].shape[:2]
    width = max(n for n in range(1, slots + 1) if slots % n == 0 and (n == 1 or rows * n <= tokens_at_once))
    return tuple(jnp.moveaxis(a.reshape(rows, slots // width, width, *a.shape[2:]), 1, 0) for a in arrays)


def log_normalisers(
    hidden: Float[Array, "R D"], head: Float[Array, "V D"], rows_at_once: int, precision: jax.lax.Precision
) -> Float[Array, " R"]:
    """log Σ exp(hidden headᵀ) of every row, in float32.

    Args:
        rows_at_once: of how many rows there are logits at a time, as far as R can be divided so.
    """

    def of_some(part: Array) -> Array:
        logits = jnp.einsum("rd,vd->rv", part, head, precision=precision, preferred_element_type=jnp.float32)
        return jax.nn.logsumexp(logits, axis=-1)

    (parts,) = _split(rows_at_once, hidden[None])
    return jax.lax.map(of_some, parts[:, 0]).reshape(-1)
