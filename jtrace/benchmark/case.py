"""What a sub-benchmark is: the same work, done by jtrace and by its peers, timed, counted and compared."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from jtrace.benchmark.workload import Workload


@dataclass(frozen=True)
class Floor:
    """Work that no implementation can do without: floating-point operations, and bytes to or from device memory.

    Attributes:
        dtype: of the operations; the setting's if None.
    """

    operations: float
    bytes: float
    dtype: str | None = None


@dataclass(frozen=True)
class Measured:
    """What one contender took for one case.

    Attributes:
        first: seconds of the first call, which compiles.
        rounds: seconds of each later call; of the first one too where nothing compiles.
        units: what a call did, in the case's unit: a contender on a sample does fewer.
        floor: of what jtrace did; None for peers.
        arrays: what is compared between contenders.
    """

    first: float
    rounds: tuple[float, ...]
    units: float
    floor: Floor | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """How far jtrace is from a peer, and how far it may be; no bar where only the number is told."""

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
        """In the contender's own process; None where the setting leaves the contender out."""
        ...

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """From the arrays of each contender that was measured, jtrace among them."""
        ...


def timed(call: Callable[[], object], rounds: int) -> tuple[float, tuple[float, ...]]:
    """Seconds of the first call, which compiles, and of each later one; a call returns when its results are there."""
    seconds = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds[0], tuple(seconds[1:])


def timed_warm(call: Callable[[], object], rounds: int) -> tuple[float, tuple[float, ...]]:
    """As `timed`, of a long call that compiles nothing, warmed by a short one: the first one is a round as well."""
    first, rest = timed(call, max(rounds - 1, 0))
    return first, (first, *rest)
