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
    """Conditions that are computed together.

    Attributes:
        unsteered: conditions of strength 0, which are all one model, asked once; empty where it is not asked.
        steered: conditions that each are asked.
        reported: conditions whose rows are written once the batch is done.
    """

    unsteered: tuple[Condition, ...]
    steered: tuple[Condition, ...]
    reported: tuple[Condition, ...]

    @property
    def numbers(self) -> list[int]:
        """Conditions to compute, as `edit_of` numbers them: 0 the unsteered model, then the steered ones in order."""
        return [*([0] if self.unsteered else []), *range(1, len(self.steered) + 1)]

    @property
    def columns(self) -> list[tuple[Condition, ...]]:
        """The conditions that each of `numbers` answers for."""
        return [*([self.unsteered] if self.unsteered else []), *((condition,) for condition in self.steered)]


def batches(plan: Plan, missing: Sequence[Condition], *, generates: bool, measured: bool, kept: bool) -> list[Batch]:
    """Batches that complete a table.

    The unsteered model is asked where its outcomes are not known yet, or its completions belong into this table's file.
    It is asked by itself where none of its rows are missing, and where all of its completions are there: these would be
    made again beside steered ones.

    Args:
        missing: conditions of the plan whose rows are missing, one at least.
        generates: whether the task has completions, which every table keeps.
        measured: whether the unsteered model's outcomes are known.
        kept: whether all of its completions are in this table's file.
    """
    unsteered = tuple(condition for condition in missing if condition.strength == 0)
    steered = [condition for condition in missing if condition.strength != 0]
    if measured and not generates:
        asked: tuple[Condition, ...] = ()
    elif unsteered or measured:
        asked = unsteered
    else:
        asked = (Condition(plan.conditions[0].layers, 0.0),)
    by_itself = bool(asked) and (kept or not unsteered)
    in_order = [Batch(asked, (), ())] if by_itself else []
    for first in range(0, max(1, len(steered)), MOST_CONDITIONS):
        chunk = tuple(steered[first : first + MOST_CONDITIONS])
        if first == 0:
            in_order.append(Batch(() if by_itself else asked, chunk, (*chunk, *unsteered)))
        else:
            in_order.append(Batch((), chunk, chunk))
    return in_order
