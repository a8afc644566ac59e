"""The edit of a block's output, or of another site: one affine change along a vector, given as data.

Adding, adding with the norm kept, projecting out and clamping are values of the same three numbers, so that vectors,
layers, strengths and operators may differ from slot to slot of one batch and nothing recompiles between them.
Axes: L layers, C conditions, B rows, T slots, D width of the site.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jtrace.models.reading import Site

Positions = Literal[
    "last",  # a prompt's last position and all that follow it, as published
    "all",
    "generated",  # what follows the prompt
]
POSITIONS: tuple[Positions, ...] = ("last", "all", "generated")


@jax.tree_util.register_static
@dataclass(frozen=True)
class At:
    """The site that an edit is of; a part of the program, not of its data."""

    site: Site = "resid"


class Edit(NamedTuple):
    """h ← (h + (push − shrink · (h·v) / (v·v)) · v) · ρ, with ρ = (|h| / |edited h|) ** keep_norm.

    One edit per layer and condition. Where a layer's numbers are 0 for a condition, its site keeps every bit.
    """

    vector: Float[Array, "*L C D"]
    push: Float[Array, "*L C"]
    shrink: Float[Array, "*L C"]
    keep_norm: Float[Array, "*L C"]
    at: At = At()


class Intervention(NamedTuple):
    """Edits of every layer under every condition, and the condition of each slot."""

    edit: Edit
    condition: Int[Array, "B T"]


def steered_from(context: int, positions: Positions) -> int:
    """Returns the first steered position after a context of that many tokens."""
    return {"last": context - 1, "all": 0, "generated": context}[positions]


def edited(residual: Float[Array, "B T D"], edit: Edit, condition: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Applies one layer's edit to its site: computed in float32, returned in the site's dtype."""
    vector, push, shrink, keep_norm, _ = jax.tree.map(lambda part: part[condition], edit)
    vector, h = vector.astype(jnp.float32), residual.astype(jnp.float32)
    square = jnp.sum(vector * vector, axis=-1)
    along = jnp.sum(h * vector, axis=-1) / jnp.where(square > 0, square, 1)
    delta = (push - shrink * along)[..., None] * vector
    moved = h + delta
    before, after = (jnp.sqrt(jnp.sum(x * x, axis=-1)) for x in (h, moved))
    # Where nothing was pushed, both norms are the same number, and their ratio is exactly 1.
    ratio = jnp.where((keep_norm > 0) & (after > 0), before / jnp.where(after > 0, after, 1), 1)
    return (moved * ratio[..., None]).astype(residual.dtype)
