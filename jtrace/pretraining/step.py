"""The training step: loss, optimiser, and the jitted update over a mesh of all local devices.

Master params and the optimiser's moments are float32 whatever the forward's dtype; the batch is split
over the devices, and everything else is whole on each. Axes: M micro-batches, B rows of one, T slots, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from jtrace.data.corpus.rows import Rows
from jtrace.kernels.cross_entropy import summed_cross_entropy
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Decoder, Params, Slots, abstract_params
from jtrace.models.layers import precision_for
from jtrace.models.sharding import Layout

DATA = "data"
# Weights that write to the residual: they start smaller in deep models, so that the residual does not grow with depth.
ONTO_RESIDUAL = ("attention/o/weight", "mlp/down/weight")
# The most tokens whose logits are in memory: on a CPU few enough for its caches, elsewhere enough to fill a device.
TOKENS_AT_ONCE, MOST_TOKENS_AT_ONCE = {"cpu": 256}, 4096


@dataclass(frozen=True)
class Optimisation:
    """Settings of the optimiser.

    Attributes:
        steps: steps of the whole training; the learning rate is lowest at the last.
        learning_rate: peak of the learning rate, reached after `warmup` steps.
        final_fraction: learning rate at the end of the cosine, as a fraction of the peak.
        weight_decay: decoupled (AdamW), on the matrices of blocks and on an untied head.
        clip: largest global norm of the gradient.
    """

    steps: int
    learning_rate: float
    warmup: int
    final_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0

    def rate(self, step: Int[Array, ""] | int) -> Float[Array, ""]:
        """Computes the learning rate of the update after `step` updates: linear from peak / warmup, then a cosine."""
        rising = (step + 1) / max(self.warmup, 1)
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        falling = (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))) / 2
        falling = self.final_fraction + (1 - self.final_fraction) * falling
        return self.learning_rate * jnp.where(step < self.warmup, rising, falling)

    def optimiser(self) -> optax.GradientTransformation:
        """Returns AdamW after clipping by the global norm."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(self.rate, self.beta1, self.beta2, self.eps, weight_decay=self.weight_decay, mask=decays),
        )


class State(NamedTuple):
    """All values that training changes; the batch of a step follows from seed and step alone."""

    step: Int[Array, ""]
    params: Params
    moments: optax.OptState


class Batch(NamedTuple):
    """Training rows on the device, in equal parts; see `jtrace.data.corpus.rows`."""

    slots: Slots  # [M, B, T] each
    learnt: Bool[Array, "M B T"]


class Metrics(NamedTuple):
    """Metrics of one step: mean loss per learnt token in nats before the update, gradient norm before clipping."""

    loss: Float[Array, ""]
    grad_norm: Float[Array, ""]
    rate: Float[Array, ""]


def decays(params: Params) -> Params:
    """Marks the params that weight decay applies to: no norms, no biases, no embedding."""

    def decayed(path: str) -> bool:
        *modules, name = path.split("/")
        return path != "embedding" and name != "bias" and not any(module.endswith("norm") for module in modules)

    return _by_path(lambda path, _: decayed(path), params)


def local_mesh() -> Mesh:
    """Returns a mesh of all devices of this process, along one axis."""
    return jax.make_mesh((jax.local_device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def to_batch(rows: Rows, mesh: Mesh, parts: int = 1) -> Batch:
    """Makes a batch of `parts` micro-batches, each split over the devices; parts × devices must divide the rows."""
    spread = NamedSharding(mesh, PartitionSpec(None, DATA))

    def place(array: np.ndarray) -> Array:
        return jax.device_put(array.reshape(parts, -1, array.shape[1]), spread)

    return Batch(Slots(place(rows.tokens), place(rows.positions()), place(rows.ends)), place(rows.learnt))


def initial_params(
    config: DecoderConfig, seed: int, dtype: DTypeLike = jnp.float32, layout: Layout | None = None
) -> Params:
    """Draws random params: normal, deviation 1/√fan-in, divided by √(2 · depth) where they write to the residual.

    Args:
        layout: the mesh to lay them out on; their values do not depend on it.
    """
    one = jnp.zeros((1, 1), jnp.int32)
    shrunk = np.float32((2 * config.depth) ** -0.5)

    def draw(key: Array) -> Params:
        params = Decoder(config).init(key, Slots(one, one, one + 1), one, method="full_forward")["params"]
        params = _by_path(lambda path, leaf: leaf * shrunk if path.endswith(ONTO_RESIDUAL) else leaf, params)
        return cast(Params, jax.tree.map(lambda leaf: leaf.astype(dtype), params))

    key, shardings = jax.random.key(seed), None
    if layout is not None:
        shardings = _by_path(lambda path, leaf: layout.sharding(path, leaf.shape), jax.eval_shape(draw, key))
    return cast(Params, jax.jit(draw, out_shardings=shardings)(key))


def initial_state(params: Params, optimisation: Optimisation, mesh: Mesh) -> State:
    """Returns the state before the first step, on every device; uses up the given params."""
    params = jax.device_put(params, replicated(mesh), donate=True)
    return jax.device_put(State(jnp.int32(0), params, jax.jit(optimisation.optimiser().init)(params)), replicated(mesh))


def abstract_state(config: DecoderConfig, optimisation: Optimisation, mesh: Mesh) -> State:
    """Returns shape, dtype and sharding of a state (`jax.ShapeDtypeStruct` leaves), without memory."""
    params = abstract_params(config, jnp.float32)
    init = optimisation.optimiser().init
    state = jax.eval_shape(lambda params: State(jnp.int32(0), params, init(params)), params)
    return cast(State, jax.tree.map(lambda leaf: leaf.update(sharding=replicated(mesh)), state))


def summed_loss(params: Params, slots: Slots, learnt: Bool[Array, "B T"], *, decoder: Decoder) -> Float[Array, ""]:
    """Sums the negative log-probability, in nats, over the learnt tokens of some rows."""
    cast_params = jax.tree.map(lambda leaf: leaf.astype(decoder.dtype), params)
    hidden = cast(Array, decoder.apply({"params": cast_params}, slots, method="hidden"))
    # Each slot predicts the next one. The last wraps around to the first token of a row, which is never learnt.
    return summed_cross_entropy(
        hidden,
        cast_params["embedding" if decoder.config.tied_head else "head"],
        jnp.roll(slots.tokens, -1, axis=1),
        jnp.roll(learnt, -1, axis=1),
        TOKENS_AT_ONCE.get(jax.default_backend(), MOST_TOKENS_AT_ONCE),
        precision_for(decoder.dtype),
        decoder.config.logit_cap,
    )


def train_step(decoder: Decoder, optimisation: Optimisation) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """Returns the jitted step: gradients summed over micro-batches, then one update. It uses up the given state."""
    optimiser = optimisation.optimiser()
    gradient = jax.value_and_grad(partial(summed_loss, decoder=decoder))

    @partial(jax.jit, donate_argnums=0)
    def step(state: State, batch: Batch) -> tuple[State, Metrics]:
        def add(total: tuple[Array, Params], part: Batch) -> tuple[tuple[Array, Params], None]:
            return jax.tree.map(jnp.add, total, gradient(state.params, *part)), None

        first, rest = (jax.tree.map(lambda leaf, cut=cut: leaf[cut], batch) for cut in (0, slice(1, None)))
        (loss, gradients), _ = jax.lax.scan(add, gradient(state.params, *first), rest)
        count = jnp.maximum(jnp.sum(batch.learnt[:, :, 1:]), 1).astype(jnp.float32)
        gradients = jax.tree.map(lambda leaf: leaf / count, gradients)
        updates, moments = optimiser.update(gradients, state.moments, state.params)
        metrics = Metrics(loss / count, optax.tree.norm(gradients), optimisation.rate(state.step))
        return State(state.step + 1, cast(Params, optax.apply_updates(state.params, updates)), moments), metrics

    return cast(Callable[[State, Batch], tuple[State, Metrics]], step)


def evaluation(decoder: Decoder) -> Callable[[Params, Batch], tuple[Float[Array, ""], Int[Array, ""]]]:
    """Returns a jitted function: the summed loss of a batch of one part, and the number of its learnt tokens."""

    @jax.jit
    def evaluate(params: Params, batch: Batch) -> tuple[Float[Array, ""], Int[Array, ""]]:
        slots = Slots(*(part[0] for part in batch.slots))
        return summed_loss(params, slots, batch.learnt[0], decoder=decoder), jnp.sum(batch.learnt[0, :, 1:])

    return cast(Callable[[Params, Batch], tuple[Array, Array]], evaluate)


def _by_path(change: Callable[[str, Any], Any], params: Mapping[str, Any]) -> Params:
    flat = flatten_dict(params, sep="/")
    return cast(Params, unflatten_dict({path: change(path, leaf) for path, leaf in flat.items()}, sep="/"))


def count_params(params: Params) -> int:
    """Counts the numbers in the params."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
