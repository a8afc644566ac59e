"""The work of a sweep and its limits: checkpoints, statements and settings, bytes that may be held at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jtrace.checkpoints.load import params_bytes
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.hub.files import Listing
from jtrace.models.sharding import Layout, check_fits
from jtrace.probing.memory import check_memory, statistics_memory
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import bytes_text, most_memory
from jtrace.sweep.check import Checked, is_traced
from jtrace.sweep.config import SweepConfig


@dataclass(frozen=True)
class Work:
    """Checkpoints to trace and how, the same in every process that takes part.

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
    """Most of disk, memory and failures that a sweep may come to.

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


def untraced(work: Work, run: RunDirectory) -> list[CheckpointRef]:
    """List what the run does not hold; one whose table is another checkpoint's is among it, and fails by name."""
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
    """Refuse a checkpoint whose params or statistics cannot be held, before they move.

    Raises:
        InputError: the mesh does not divide the model, the memory budget is less than its params on this host, or
            residuals and statistics take more memory than there is.
    """
    if work.layout is not None:
        check_fits(work.layout, checked.read, checked.ref.name)
    if (count := params_bytes(checked.read, work.config.dtype, work.layout)) > limits.memory_budget:
        raise InputError(
            f"--memory_budget={bytes_text(limits.memory_budget)}: less than the params of {checked.ref.name}, "
            f"{bytes_text(count)}; give at least that, or spread them over more hosts with --one_mesh"
        )
    config = work.config
    check_memory(
        checked.ref.name,
        statistics_memory(checked.read, work.sets, config.dtype, work.layout, config.most_in_matrices),
    )
