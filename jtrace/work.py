"""What a sweep is to do, what it may use, and one checkpoint on its way through it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jtrace.checkpoints.convert import Staged, params_bytes
from jtrace.checkpoints.listing import Listing, bytes_text
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.log import Span
from jtrace.models.config import DecoderConfig
from jtrace.models.sharding import Layout, check_fits
from jtrace.tracing import Checked, SweepConfig


@dataclass(frozen=True)
class Work:
    """What a sweep is to do, the same in every process that takes part.

    Attributes:
        refs: all checkpoints of the command, traced ones among them.
        listings: of hub checkpoints, where they are known already.
        layout: the mesh; None for one device.
        one_mesh: whether it spans all processes, which then go through the checkpoints together.
    """

    refs: Sequence[CheckpointRef]
    sets: Sequence[Statements]
    config: SweepConfig
    tasks: Sequence[Task] = ()
    listings: Mapping[CheckpointRef, Listing] = field(default_factory=dict)
    layout: Layout | None = None
    one_mesh: bool = False


@dataclass(frozen=True)
class Limits:
    """What a sweep may use.

    Attributes:
        disk: bytes of downloads at once, beside what the cache holds already; None for as many as fit.
        memory: bytes of params on the host at once, the traced checkpoint's and the next one's.
        keep_downloads: whether downloads stay once they are traced.
        failures: give up after so many; None for never.
    """

    disk: int | None
    memory: int
    keep_downloads: bool = False
    failures: int | None = None


@dataclass(eq=False)
class Item:
    """A checkpoint on its way through the stages.

    Attributes:
        done: traced by another process meanwhile.
        told: its error is on record already, by another process.
        disk, memory: bytes that it holds of the budgets.
    """

    ref: CheckpointRef
    label: str
    checked: Checked | None = None
    staged: Staged | None = None
    fetch: Span | None = None
    read: Span | None = None
    fetched_bytes: int = 0
    disk: int = 0
    memory: int = 0
    done: bool = False
    told: bool = False
    error: Exception | None = None


def check_room(name: str, architecture: DecoderConfig, work: Work, limits: Limits) -> None:
    """Whether the params of a checkpoint can be held, before they move.

    Args:
        architecture: as far as it is read.

    Raises:
        InputError: the mesh does not divide the model, or the memory budget is less than its params on this host.
    """
    if work.layout is not None:
        check_fits(work.layout, architecture, name)
    if (count := params_bytes(architecture, work.config.dtype, work.layout)) > limits.memory:
        raise InputError(
            f"--memory_budget={bytes_text(limits.memory)}: less than the params of {name}, {bytes_text(count)}; give "
            "at least that, or spread them over more hosts with --one_mesh"
        )
