"""The interface of a sub-benchmark: the same work, done by jtrace and by its peers, timed and compared."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from jtrace.benchmark.workload import Workload


@dataclass(frozen=True)
class Floor:
    """The least work of any implementation: floating-point operations, and bytes to or from device memory.

    Attributes:
        dtype: dtype of the operations; the setting's if None.
    """

    operations: float
    bytes: float
    dtype: str | None = None


@dataclass(frozen=True)
class Measured:
    """Measurements of one contender on one case.

    Attributes:
        first: seconds of the first call, which compiles.
        rounds: seconds of each later call, and of the first where nothing compiles.
        units: work of a call in the case's unit; a contender on a sample does less.
        floor: floor of jtrace's work; None for peers.
        arrays: results to compare between contenders.
    """

    first: float
    rounds: tuple[float, ...]
    units: float
    floor: Floor | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """A distance between jtrace and a peer, and its bar; without a bar the number is only reported."""

    name: str
    value: float
    bar: float | None = None

    @property
    def holds(self) -> bool:
        # A NaN agrees with nothing.
        return self.bar is None or self.value <= self.bar


class Case(Protocol):
    """A sub-benchmark."""

    name: str
    unit: str
    contenders: tuple[str, ...]

    def measure(self, contender: str, workload: Workload) -> Measured | None:
        """Measures a contender, in its own process; None where the setting leaves it out."""
        ...

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Compares the arrays of the contenders that were measured, jtrace among them."""
        ...


def timed(call: Callable[[], object], rounds: int) -> tuple[float, tuple[float, ...]]:
    """Times the first call, which compiles, and each later one, in seconds; a call returns when it is done."""
    seconds = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds[0], tuple(seconds[1:])


def timed_warm(call: Callable[[], object], rounds: int) -> tuple[float, tuple[float, ...]]:
    """Times a long call that compiles nothing and was warmed by a short one: the first call is a round as well."""
    first, rest = timed(call, max(rounds - 1, 0))
    return first, (first, *rest)
