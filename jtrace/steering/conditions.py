"""Conditions that a target is asked under: settings, the plan of each table, and batches that are computed together."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jtrace.data.tokenizer import SpecialTokens
from jtrace.errors import InputError
from jtrace.evaluation.answers import Decoding
from jtrace.inference.language_model import LanguageModel
from jtrace.models.intervention import Positions
from jtrace.probing.protocols import Protocol
from jtrace.runs.names import set_in_layers
from jtrace.steering.vector import Condition, Operator, SteeringVector, edit_of

# Conditions that are computed together.
MOST_CONDITIONS = 32


@dataclass(frozen=True)
class SteerConfig:
    """Settings of steering and asking a target.

    Attributes:
        layers: each one layer, or several that are steered at once; None for each layer by itself.
        strengths: finite.
        special_tokens: what special tokens that are written out in a text are read as.
        random: seeds of the random directions of equal norm that each vector is compared with.
        seed: of sampling, guesses, intervals and the validation part.
    """

    strengths: tuple[float, ...]
    layers: tuple[tuple[int, ...], ...] | None = None
    protocols: tuple[Protocol, ...] = ("paper",)
    operator: Operator = "add"
    positions: Positions = "last"
    temperature: float = 0.0
    special_tokens: SpecialTokens = "parse"
    random: tuple[int, ...] = ()
    seed: int = 0

    @property
    def decoding(self) -> Decoding:
        """Settings of asking that hold for every task."""
        return Decoding(self.positions, self.temperature, self.seed)


@dataclass(frozen=True)
class Plan:
    """The conditions of one table; `dataset` names the set, and the layers where several are steered at once."""

    dataset: str
    conditions: tuple[Condition, ...]


def plans(vector: SteeringVector, model: LanguageModel, config: SteerConfig) -> Iterator[Plan]:
    """A plan per table of a vector: one of single layers, one of each group of layers that are steered at once.

    Raises:
        InputError: a layer that the model lacks or the vector was not made for, or a strength that is not finite.
    """
    groups = tuple((layer,) for layer in vector.layers) if config.layers is None else config.layers
    for layer in itertools.chain.from_iterable(groups):
        if not 0 <= layer < model.config.depth:
            raise InputError(f"--layers asks for {layer}; {model.name} has layers 0 to {model.config.depth - 1}")
    conditions: dict[str, list[Condition]] = {}
    for layers, strength in itertools.product(groups, config.strengths):
        conditions.setdefault(set_in_layers(vector.dataset, layers), []).append(Condition(layers, strength))
    for dataset, several in conditions.items():
        edit_of(vector, several, config.operator)  # refuses what cannot be
        yield Plan(dataset, tuple(several))


@dataclass(frozen=True)
class Batch:
    """Conditions that are computed together: those of strength 0, which are all one model, or steered ones.

    Attributes:
        columns: the conditions that each of the batch's answers stands for.
    """

    columns: tuple[tuple[Condition, ...], ...]

    @property
    def unsteered(self) -> bool:
        """Tell whether the unsteered model is asked."""
        return self.columns[0][0].strength == 0

    @property
    def steered(self) -> tuple[Condition, ...]:
        """The steered conditions."""
        return () if self.unsteered else tuple(condition for (condition,) in self.columns)

    @property
    def numbers(self) -> list[int]:
        """Conditions to compute, as `edit_of` numbers them: 0 the unsteered model, then the steered ones in order."""
        return [0] if self.unsteered else list(range(1, len(self.columns) + 1))


def batches(plan: Plan, missing: Sequence[Condition], *, measured: bool) -> Iterator[Batch]:
    """Batches that complete a table.

    The unsteered model is asked by itself: beside steered conditions its answers, and with them what is chosen against
    it, would hang in their last digits on which conditions an earlier run has left to do.

    Args:
        missing: conditions of the plan whose rows are missing, one at least.
        measured: whether the unsteered model's outcomes are known.
    """
    unsteered = tuple(condition for condition in missing if condition.strength == 0)
    if unsteered or not measured:
        yield Batch((unsteered or (Condition(plan.conditions[0].layers, 0.0),),))
    steered = [condition for condition in missing if condition.strength != 0]
    for first in range(0, len(steered), MOST_CONDITIONS):
        yield Batch(tuple((condition,) for condition in steered[first : first + MOST_CONDITIONS]))
