"""What a sweep is to do, what it may use, and one checkpoint on its way through it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jtrace.checkpoints.load import Staged, params_bytes
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.hub.files import Listing
from jtrace.inference.residuals import PackedSets
from jtrace.models.sharding import Layout, check_fits
from jtrace.runs.log import Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import bytes_text, most_memory
from jtrace.sweep.check import Checked, is_traced
from jtrace.sweep.config import SweepConfig


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
        disk_budget: bytes of downloads at once, beside what the cache holds already; None for as many as fit.
        memory_budget: bytes of params on the host at once, the traced checkpoint's and the next one's.
        keep_downloads: whether downloads stay once they are traced.
        max_failures: give up after so many; None for never.
    """

    disk_budget: int | None = None
    memory_budget: int = field(default_factory=most_memory)
    keep_downloads: bool = False
    max_failures: int | None = None


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
    packed: PackedSets | None = None
    staged: Staged | None = None
    fetch: Span | None = None
    read: Span | None = None
    fetched_bytes: int = 0
    disk: int = 0
    memory: int = 0
    done: bool = False
    told: bool = False
    error: Exception | None = None


def untraced(work: Work, run: RunDirectory) -> list[CheckpointRef]:
    """Those that the run does not hold; one whose table is another checkpoint's is among them, and fails by name."""
    left = []
    for ref in work.refs:
        try:
            traced = is_traced(ref, work.sets, work.config, run, work.tasks)
        except InputError:
            traced = False
        if not traced:
            left.append(ref)
    return left


def check_room(checked: Checked, work: Work, limits: Limits) -> None:
    """Whether the params of a checkpoint can be held, before they move.

    Raises:
        InputError: the mesh does not divide the model, or the memory budget is less than its params on this host.
    """
    if work.layout is not None:
        check_fits(work.layout, checked.read, checked.ref.name)
    if (count := params_bytes(checked.read, work.config.dtype, work.layout)) > limits.memory_budget:
        raise InputError(
            f"--memory_budget={bytes_text(limits.memory_budget)}: less than the params of {checked.ref.name}, "
            f"{bytes_text(count)}; give at least that, or spread them over more hosts with --one_mesh"
        )
