"""Values of the steering tables' columns `vector_from`, `vector_set` and `positions`: written and read here alone."""

from collections.abc import Sequence
from dataclasses import dataclass

RANDOM = "random"
# Vectors that know nothing of the concept: what they reach needs no concept.
CONTROLS = (RANDOM, "shuffled")
# The operator that the column `positions` does not name: the published one.
USUAL_OPERATOR = "add"


@dataclass(frozen=True)
class VectorName:
    """A vector in the column `vector_from`: `NAME`, `NAME:whitened`, `NAME:random`, `NAME:whitened-random`.

    Attributes:
        checkpoint: that it is from.
        kind: how it was made; empty as published.
    """

    checkpoint: str
    kind: str = ""

    @classmethod
    def parse(cls, text: str) -> "VectorName":
        """The inverse of `str`."""
        checkpoint, colon, kind = text.rpartition(":")
        return cls(checkpoint, kind) if colon else cls(text)

    def __str__(self) -> str:
        return f"{self.checkpoint}:{self.kind}" if self.kind else self.checkpoint

    @property
    def control(self) -> str:
        """The one of `CONTROLS` that it is; empty for none."""
        last = self.kind.rpartition("-")[2]
        return last if last in CONTROLS else ""

    @property
    def controlled_kind(self) -> str:
        """The kind of vector that a control stands beside."""
        return self.kind.rpartition("-")[0]

    @property
    def random(self) -> "VectorName":
        """A random direction of the vector's norm."""
        return VectorName(self.checkpoint, f"{self.kind}-{RANDOM}" if self.kind else RANDOM)


@dataclass(frozen=True)
class Placement:
    """The column `positions`: `last`, `all`, `last project_out`.

    Attributes:
        positions: where in the sequence a vector was added.
        operator: what was done with it.
    """

    positions: str
    operator: str = USUAL_OPERATOR

    @classmethod
    def parse(cls, text: str) -> "Placement":
        """The inverse of `str`."""
        positions, _, operator = text.partition(" ")
        return cls(positions, operator or USUAL_OPERATOR)

    def __str__(self) -> str:
        return self.positions if self.operator == USUAL_OPERATOR else f"{self.positions} {self.operator}"


def set_in_layers(expression: str, layers: Sequence[int]) -> str:
    """The column `vector_set`: a set or a sum of sets, with the layers if several are steered at once (`sst2@3+4`)."""
    return expression if len(layers) == 1 else f"{expression}@{'+'.join(map(str, layers))}"


def first_set(expression: str) -> str:
    """The first set of a sum as `stereoset+-0.5*toxigen`."""
    return expression.partition("+")[0].rpartition("*")[2]


def set_of(vector_set: str) -> str:
    """The built-in set that a variant (`sst2_small`), a vector in several layers or a sum's first term is of."""
    return first_set(vector_set.partition("@")[0]).partition("_")[0]
