"""Statistics layer by layer on the device, or as many layers at once as a mesh has devices.

Axes: L layers, U distinct statements, M layers of one call, D width.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from jtrace.models.sharding import Layout
from jtrace.runtime.progress import Bar

# residuals [L U D], layer, arguments (a tree of arrays), options → a tree of arrays
Compute = Callable[[Array, Array, Any, Any], Any]


def by_layer(
    compute: Compute,
    residuals: Float[Array, "L U D"],
    layers: Sequence[int],
    arguments: Any,
    options: Hashable = None,
    layout: Layout | None = None,
    progress: str | None = None,
) -> Iterator[Any]:
    """Map a function over the layers, in order; results are on the host.

    Args:
        compute: pure; one function of a module, so that it is compiled once for all checkpoints.
        arguments: what all layers share, a tree of arrays.
        options: what decides the program.
        layout: the mesh that residuals and arguments are whole on every device of; layers are shared out over these,
            and all of its processes call this alike. None for one device.
        progress: label of a progress bar; none is shown if None.
    """
    results = _found(compute, residuals, layers, arguments, options, layout)
    return iter(Bar(results, desc=progress, total=len(layers), unit=" layers"))


def place(arguments: Any, layout: Layout | None) -> Any:
    """A tree of arrays, whole on every device of the mesh."""
    return jax.tree.map(lambda leaf: layout.place(leaf, layout.replicated) if layout else jnp.asarray(leaf), arguments)


def _found(
    compute: Compute,
    residuals: Float[Array, "L U D"],
    layers: Sequence[int],
    arguments: Any,
    options: Hashable,
    layout: Layout | None,
) -> Iterator[Any]:
    if layout is None:
        for layer in layers:
            yield jax.device_get(one_layer(compute, residuals, np.int32(layer), arguments, options))
        return
    for first in range(0, len(layers), layout.mesh.size):
        batch = layers[first : first + layout.mesh.size]
        padded = np.array([*batch, *[batch[-1]] * (layout.mesh.size - len(batch))], np.int32)
        placed = layout.place(padded, layout.each)
        several = jax.device_get(layers_at_once(compute, residuals, placed, arguments, options, layout))
        yield from (jax.tree.map(lambda leaf, at=at: leaf[at], several) for at in range(len(batch)))


@partial(jax.jit, static_argnames=("compute", "options"))
def one_layer(
    compute: Compute, residuals: Float[Array, "L U D"], layer: Int[Array, ""], arguments: Any, options: Hashable
) -> Any:
    return compute(residuals, layer, arguments, options)


@partial(jax.jit, static_argnames=("compute", "options", "layout"))
def layers_at_once(
    compute: Compute,
    residuals: Float[Array, "L U D"],
    layers: Int[Array, " M"],
    arguments: Any,
    options: Hashable,
    layout: Layout,
) -> Any:
    """Compute as many layers as the mesh has devices, each device its own; results have a leading axis of layers."""

    def own_layer(residuals: Float[Array, "L U D"], layer: Int[Array, " 1"], arguments: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], compute(residuals, layer[0], arguments, options))

    whole, per_device = PartitionSpec(), layout.each.spec
    # Devices take as many Newton steps as their own layer needs, so nothing is checked to be the same on all.
    shared_out = jax.shard_map(
        own_layer, mesh=layout.mesh, in_specs=(whole, per_device, whole), out_specs=per_device, check_vma=False
    )
    return jax.lax.with_sharding_constraint(shared_out(residuals, layers, arguments), layout.replicated)
