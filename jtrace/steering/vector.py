"""Interventions: which vector, how strongly, in which layers, at which positions, by which operator.

Everything becomes an `Edit`, numbers that the decoder takes in; nothing is patched.
Axes: L layers, C conditions, D width.
"""

import functools
import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jtrace.errors import InputError
from jtrace.models.intervention import Edit

Operator = Literal[
    "add",  # h + strength · v, as published
    "add_keep_norm",  # the same, then scaled back to the norm of h
    "project_out",  # h − strength · (h·u) u with u = v / |v|: 1 leaves no projection
    "clamp",  # the projection on v set to strength · v
]
OPERATORS: tuple[Operator, ...] = ("add", "add_keep_norm", "project_out", "clamp")
_TERM = re.compile(r"(?:(-?\d+(?:\.\d+)?)\*)?(.+)")


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
    """

    values: np.ndarray
    layers: tuple[int, ...]
    source: str
    dataset: str
    one_is_good: bool | None = None
    seed: int | None = None

    def __neg__(self) -> "SteeringVector":
        return -1.0 * self

    def __mul__(self, factor: float) -> "SteeringVector":
        good = self.one_is_good if factor >= 0 or self.one_is_good is None else not self.one_is_good
        values = (np.float32(factor) * self.values).astype(np.float32)
        terms = [_times(factor, term) for term in self.dataset.split("+")]
        return replace(self, values=values, one_is_good=good, dataset="+".join(terms))

    __rmul__ = __mul__

    def __add__(self, other: "SteeringVector") -> "SteeringVector":
        return replace(
            self,
            values=self.values + other.values,
            layers=tuple(layer for layer in self.layers if layer in other.layers),
            dataset=f"{self.dataset}+{other.dataset}",
            one_is_good=self.one_is_good if self.one_is_good == other.one_is_good else None,
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


def combined(expression: str, by_set: Mapping[str, SteeringVector]) -> SteeringVector:
    """The vector of a set, or a sum of several as `stereoset+-0.5*toxigen`.

    Raises:
        InputError: a set that there is no vector of.
    """
    if expression in by_set:
        return by_set[expression]
    terms = []
    for text in expression.split("+"):
        factor, name = _factor_and_name(text.strip())
        if name not in by_set:
            raise InputError(f"--vector_set={expression}: the vectors hold no set '{name}', but {', '.join(by_set)}")
        terms.append(by_set[name] if factor == 1 else factor * by_set[name])
    return functools.reduce(operator.add, terms)


def no_vector(depth: int, width: int) -> SteeringVector:
    """What the model as it is has been steered with."""
    return SteeringVector(np.zeros((depth, width), np.float32), tuple(range(depth)), "", "")


def _factor_and_name(term: str) -> tuple[float, str]:
    match = _TERM.fullmatch(term)
    if match is None:
        return 1.0, term
    factor, name = match.groups()
    return float(factor or 1), name


def _times(factor: float, term: str) -> str:
    own, name = _factor_and_name(term)
    return name if factor * own == 1 else f"{factor * own:g}*{name}"


@dataclass(frozen=True)
class Condition:
    """One way of steering: in these layers at once, with this strength.

    Strength 0 is the model as it is, bit for bit, whatever the operator: to clamp a projection to 0, project it out.
    """

    layers: tuple[int, ...]
    strength: float


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
                    f"the vectors of {vector.source} have no layer {layer}; they have {_ranges(vector.layers)}"
                )
            strength[layer, at], active[layer, at] = condition.strength, condition.strength != 0
    nothing = np.zeros_like(strength)
    push = {"project_out": nothing}.get(how, strength)
    shrink = {"project_out": strength, "clamp": active}.get(how, nothing)
    keep_norm = active if how == "add_keep_norm" else nothing
    vectors = np.broadcast_to(vector.values[:, None], (depth, len(conditions) + 1, width))
    return Edit(*(jnp.asarray(part, jnp.float32) for part in (vectors, push, shrink, keep_norm)))


def _ranges(layers: Sequence[int]) -> str:
    """`0-5, 8`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
