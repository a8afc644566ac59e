"""Interventions: a vector, its strength, its layers and positions, and the operator.

Everything becomes an `Edit`, numbers that the decoder takes in; nothing is patched.
Axes: L layers, C conditions, D width.
"""

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jtrace.errors import InputError
from jtrace.models.intervention import POSITIONS, At, Edit, Positions
from jtrace.models.reading import Site
from jtrace.probing.set_names import factor_and_name, times
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import ModelFacts, Vectors
from jtrace.probing.vectors import MASS_MEAN
from jtrace.runs.names import VectorName
from jtrace.runs.steering_files import Setting

Operator = Literal[
    "add",  # h + strength · v, as published
    "add_keep_norm",  # the same, then scaled back to the norm of h
    "project_out",  # h − strength · (h·u) u with u = v / |v|: 1 leaves no projection
    "clamp",  # the projection on v set to strength · v
]
OPERATORS: tuple[Operator, ...] = ("add", "add_keep_norm", "project_out", "clamp")


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A vector for each layer, and where it comes from.

    Attributes:
        values: float32 [L, D]; 0 in layers that it was not made for.
        layers: that it was made for.
        source: the checkpoint whose residuals it was made of; its kind follows a colon if it is not the published one.
        dataset: the statement set, or a sum as `combined` reads it.
        one_is_good: whether it points to the trustworthy side, as it points to label 1; None where that is not known.
        seed: that a random direction was drawn by; None for any other.
        model: that it was made of; None where that is not known.
        site: of the blocks that it was made of, and is added to.
    """

    values: np.ndarray
    layers: tuple[int, ...]
    source: str
    dataset: str
    one_is_good: bool | None = None
    seed: int | None = None
    model: ModelFacts | None = None
    site: Site = "resid"

    def __repr__(self) -> str:
        norms = np.linalg.norm(self.values[list(self.layers)], axis=1)
        spread = f"{norms.min():.3g} to {norms.max():.3g}" if len(norms) else "none"
        where = "" if self.site == "resid" else f"{self.site}, "
        return (
            f"SteeringVector({self.dataset!r} of {self.source!r}: {where}layers {layer_ranges(self.layers)}, width "
            f"{self.values.shape[1]}, norms {spread})"
        )

    def __neg__(self) -> "SteeringVector":
        return -1.0 * self

    def __mul__(self, factor: float) -> "SteeringVector":
        good = self.one_is_good if factor >= 0 or self.one_is_good is None else not self.one_is_good
        values = (np.float32(factor) * self.values).astype(np.float32)
        return replace(self, values=values, one_is_good=good, dataset=times(float(factor), self.dataset))

    __rmul__ = __mul__

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        if self.site != other.site:
            raise InputError(f"vectors of the sites '{self.site}' and '{other.site}' have no sum")
        if self.site == "heads":  # where a vector has no heads it is zero, not unknown
            layers = tuple(sorted({*self.layers, *other.layers}))
        else:
            layers = tuple(layer for layer in self.layers if layer in other.layers)
        return replace(
            self,
            values=self.values + other.values,
            layers=layers,
            dataset=f"{self.dataset}+{other.dataset}",
            one_is_good=self.one_is_good if self.one_is_good == other.one_is_good else None,
        )

    def at(
        self,
        layer: int | Sequence[int] | None,
        strength: float | Sequence[float] = 1.0,
        positions: Positions = "last",
        operator: Operator = "add",
    ) -> "Steering":
        """The vector at work in a layer, or in each of several by itself, with one or several strengths.

        Args:
            layer: the block whose output, or other site, it is added to; None for all its layers at once.
            strength: what it is multiplied by; 1 is one standard deviation of the statements' projections on it.
            positions: `last` (a prompt's last and every generated one, as published), `all`, or `generated`.
            operator: `add`, `add_keep_norm`, `project_out` or `clamp`, see `Operator`.

        Raises:
            InputError: a layer that the vector was not made for, a strength that is not finite, or another name of
                positions or operator.
        """
        if positions not in POSITIONS or operator not in OPERATORS:
            raise InputError(
                f"positions={positions!r}, operator={operator!r}: there are {', '.join(POSITIONS)}, and "
                f"{', '.join(OPERATORS)}"
            )
        if layer is None and not self.layers:
            raise InputError("the vector has no layer to be added to")
        one_layer = layer is None or isinstance(layer, int | np.integer)
        places = [self.layers] if layer is None else [(int(one),) for one in np.atleast_1d(np.asarray(layer))]
        strengths = (strength,) if np.ndim(strength) == 0 else tuple(np.ravel(np.asarray(strength)))
        conditions = [Condition(layers, float(times)) for layers in places for times in strengths]
        several = not one_layer or np.ndim(strength) > 0
        steering = Steering(self, tuple(conditions), positions, operator, several)
        steering.edit()  # refuses what cannot be
        return steering

    def save(self, path: str | Path, to: str | None = None, strength: float = 1.0) -> None:
        """Writes strength times the vector, for jtrace and for other tools; see `write_vector`.

        Args:
            path: a file that is there is replaced.
            to: `safetensors`, `npz`, `gguf` (llama.cpp, repeng) or `lm-eval`; that of the path's suffix if None.

        Raises:
            InputError: a format that cannot hold the vector, or a strength that makes none.
        """
        if self.site != "resid":
            raise InputError(f"a vector of the site '{self.site}' has no file format yet; keep its values as an array")
        name, rows = VectorName.parse(self.source), self.values[list(self.layers)]
        write_vector(
            Path(path),
            Vectors(
                checkpoint=name.checkpoint,
                kind=name.kind or MASS_MEAN,
                arrays={self.dataset: rows},
                layers=self.layers,
                one_is_good={self.dataset: self.one_is_good},
                model=self.model,
            ),
            to,
            float(strength),
        )

    def towards_good(self) -> "SteeringVector":
        """The same line, pointing to the trustworthy side.

        Raises:
            InputError: it is not known which side that is.
        """
        if self.one_is_good is None:
            raise InputError(
                f"the vector of '{self.dataset}' does not say which side is trustworthy; leave --towards_good out"
            )
        return self if self.one_is_good else -self


def combined(expression: str, by_set: Mapping[str, SteeringVector], asked: str = "--vector_set") -> SteeringVector:
    """The vector of a set, or a sum of several as `stereoset+-0.5*toxigen`.

    Args:
        asked: where the expression stands, for messages.

    Raises:
        InputError: a set that there is no vector of.
    """
    if expression in by_set:
        return by_set[expression]
    terms = []
    for text in expression.split("+"):
        factor, name = factor_and_name(text.strip())
        if name not in by_set:
            raise InputError(f"{asked}={expression}: the vectors hold no set '{name}', but {', '.join(by_set)}")
        terms.append(by_set[name] if factor == 1 else factor * by_set[name])
    return functools.reduce(operator.add, terms)


def no_vector(depth: int, width: int) -> SteeringVector:
    """The zero vector, which stands for the model as it is."""
    return SteeringVector(np.zeros((depth, width), np.float32), tuple(range(depth)), "", "")


@dataclass(frozen=True)
class Condition:
    """One way of steering: in these layers at once, with this strength.

    Strength 0 is the model as it is, bit for bit, whatever the operator: to clamp a projection to 0, project it out.
    """

    layers: tuple[int, ...]
    strength: float

    @property
    def setting(self) -> Setting:
        """Layer and strength as in the tables: of several layers the first, as the set names them all."""
        return self.layers[0], self.strength


@dataclass(frozen=True, eq=False)
class Steering:
    """A vector at work.

    Attributes:
        conditions: layer by layer, and of each layer strength by strength.
        several: whether layers or strengths were given as a list, so that results have an entry for each condition.
    """

    vector: SteeringVector
    conditions: tuple[Condition, ...]
    positions: Positions = "last"
    operator: Operator = "add"
    several: bool = False

    def edit(self) -> Edit:
        """The decoder's input, see `edit_of`."""
        return edit_of(self.vector, self.conditions, self.operator)


def edit_of(vector: SteeringVector, conditions: Sequence[Condition], how: Operator = "add") -> Edit:
    """The decoder's input for some conditions; condition 0 leaves residuals alone, the others follow in order.

    Raises:
        InputError: a strength that is not finite, or a layer that the vector was not made for.
    """
    depth, width = vector.values.shape
    strength = np.zeros((depth, len(conditions) + 1), np.float32)
    active = np.zeros_like(strength)
    for at, condition in enumerate(conditions, 1):
        if not math.isfinite(condition.strength):
            raise InputError(f"a strength of {condition.strength} is not a number to steer with; give finite ones")
        for layer in condition.layers:
            if layer not in vector.layers:
                raise InputError(
                    f"the vectors of {vector.source} have no layer {layer}; they have {layer_ranges(vector.layers)}"
                )
            strength[layer, at], active[layer, at] = condition.strength, condition.strength != 0
    nothing = np.zeros_like(strength)
    push = {"project_out": nothing}.get(how, strength)
    shrink = {"project_out": strength, "clamp": active}.get(how, nothing)
    keep_norm = active if how == "add_keep_norm" else nothing
    vectors = np.broadcast_to(vector.values[:, None], (depth, len(conditions) + 1, width))
    made = [jnp.asarray(part, jnp.float32) for part in (vectors, push, shrink, keep_norm)]
    return Edit(made[0], made[1], made[2], made[3], At(vector.site))


def layer_ranges(layers: Sequence[int]) -> str:
    """The words for layers: `0-5, 8`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
