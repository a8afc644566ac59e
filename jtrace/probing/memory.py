"""Memory that the statistics of a checkpoint take, and how many rows fit into what there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.models.config import DecoderConfig
from jtrace.models.sharding import Layout
from jtrace.runtime.budget import MEMORY_SHARE, bytes_text, most_memory

# Float32 matrices [train, train] at once: R of the input, a kernel, and what its inverse takes, as XLA plans it.
MATRICES = 3.5
TRAIN_SHARE = 0.8  # of the published split


@dataclass(frozen=True)
class StatisticsMemory:
    """Bytes that residuals and statistics take of the device that computes.

    Attributes:
        statements: distinct ones of all sets.
        rows: of the largest set.
        row_bytes: residuals of a statement, all layers.
        most_in_matrices: rows that its matrices have at most; None where all rows are in them.
        copies: how many devices that share this memory hold all of it: those of a mesh on a CPU.
    """

    statements: int
    rows: int
    row_bytes: int
    copies: int = 1
    most_in_matrices: int | None = None

    @property
    def bytes(self) -> int:
        """All residuals, and the matrices of the largest set."""
        in_matrices = self.rows if self.most_in_matrices is None else min(self.rows, self.most_in_matrices)
        return self.copies * (self.row_bytes * self.statements + _matrix_bytes(in_matrices))

    def fitting_rows(self, available: int) -> int:
        """The most rows of a single set that so many bytes hold."""
        square, linear = self.copies * MATRICES * 4 * TRAIN_SHARE**2, self.copies * self.row_bytes
        if self.most_in_matrices is not None:
            return max(0, int((available - square * self.most_in_matrices**2) / linear))
        return int((math.sqrt(linear**2 + 4 * square * available) - linear) / (2 * square))


def statistics_memory(
    config: DecoderConfig,
    sets: Sequence[Statements],
    dtype: DTypeLike,
    layout: Layout | None = None,
    most_in_matrices: int | None = None,
) -> StatisticsMemory:
    """Work out the bytes that the statistics of a checkpoint take.

    Args:
        config: of the blocks that are read.
        dtype: of the residuals.
        most_in_matrices: rows of a set that protocol `sound` takes for information, where it is alone.
    """
    return StatisticsMemory(
        statements=len({text for statements in sets for text in statements.texts}),
        rows=max(map(len, sets)),
        row_bytes=config.depth * config.width * jnp.dtype(dtype).itemsize,
        copies=jax.local_device_count() if layout is not None and jax.default_backend() == "cpu" else 1,
        most_in_matrices=most_in_matrices,
    )


def available_bytes() -> int | None:
    """Memory of the device that computes, of a CPU its machine's; None where an accelerator does not tell."""
    if jax.default_backend() == "cpu":
        return int(most_memory() / MEMORY_SHARE)
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def check_memory(name: str, memory: StatisticsMemory) -> None:
    """Refuse statistics that cannot be held, before anything moves.

    Args:
        name: of the checkpoint.

    Raises:
        InputError: they take more than there is; it says how many rows fit.
    """
    limit = available_bytes()
    if limit is not None and memory.bytes > limit:
        raise InputError(
            f"{name}: residuals of {memory.statements:,} statements and statistics of the largest set, "
            f"{memory.rows:,} rows, take {bytes_text(memory.bytes)} of memory, {bytes_text(limit)} are there; a set of "
            f"{memory.fitting_rows(limit):,} rows fits"
        )


def _matrix_bytes(rows: int) -> int:
    return int(MATRICES * 4 * (TRAIN_SHARE * rows) ** 2)
