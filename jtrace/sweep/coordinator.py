"""Dealings of a process with the others of its sweep: who traces what, who writes, and what all have to agree on."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import jax
import numpy as np

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.distributed import all_agree, from_first, share
from jtrace.runtime.locks import Claims
from jtrace.sweep.check import is_traced
from jtrace.sweep.stages import Failed, TracedElsewhere, Wanted
from jtrace.sweep.work import Work


def timestamp() -> str:
    """The time as the run's list of failures has it: ISO, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Coordinator(ABC):
    """A process among those of its sweep.

    Attributes:
        claims: on checkpoints of the run, against processes of other commands too.
    """

    claims: Claims

    @property
    @abstractmethod
    def writes(self) -> bool:
        """Tell whether this process writes into the run directory."""

    @abstractmethod
    def share_out(self, refs: Sequence[CheckpointRef], left: Collection[CheckpointRef]) -> set[CheckpointRef]:
        """Choose the checkpoints that this process is to go through.

        Args:
            refs: all of the sweep, the same in every process.
            left: those that are not traced, as far as this process sees.
        """

    @abstractmethod
    def take(self, name: str) -> bool:
        """Take a checkpoint of the share, by name; False while another process has it."""

    @abstractmethod
    def settled(self, wanted: Wanted) -> TracedElsewhere | Failed | None:
        """Tell how another process has ended with a checkpoint since this one began; None where none has."""

    @abstractmethod
    def agreed(self, ok: bool) -> bool:
        """Tell whether `ok` holds in every process that goes in step with this one; all of them have to ask."""


@dataclass(frozen=True)
class Alone(Coordinator):
    """A process on its own pace, one of several perhaps that share a run by claims; every one writes.

    Attributes:
        process, processes: which one of how many of its command it is.
    """

    work: Work
    run: RunDirectory
    process: int = 0
    processes: int = 1
    began: str = field(default_factory=timestamp)

    @property
    def writes(self) -> bool:
        return True

    def share_out(self, refs: Sequence[CheckpointRef], left: Collection[CheckpointRef]) -> set[CheckpointRef]:
        """Take its stripe: of all, not of what is left, which another process may see otherwise a moment later."""
        return set(share(refs, self.process, self.processes)).intersection(left)

    def take(self, name: str) -> bool:
        return self.claims.take(name)

    def settled(self, wanted: Wanted) -> TracedElsewhere | Failed | None:
        """Look into the run directory, which other processes fill meanwhile."""
        work, ref = self.work, wanted.ref
        if is_traced(ref, work.sets, work.config, self.run, work.tasks):
            return TracedElsewhere(wanted)
        failure = self.run.failures().get(ref.name)
        if failure and failure["time"] >= self.began:
            return Failed(wanted, " ".join(failure["error"].split()), on_record=True)
        return None

    def agreed(self, ok: bool) -> bool:
        return ok


@dataclass(frozen=True)
class OneMesh(Coordinator):
    """One of the processes that share a mesh, and so go through the checkpoints in step; the first one writes.

    Attributes:
        first: whether it is this one.
    """

    first: bool

    @property
    def writes(self) -> bool:
        return self.first

    def share_out(self, refs: Sequence[CheckpointRef], left: Collection[CheckpointRef]) -> set[CheckpointRef]:
        """Choose those that the first process sees left and can claim, the same in every process."""
        flags = [self.first and ref in left and self.claims.take(ref.name) for ref in refs]
        return {ref for ref, flag in zip(refs, from_first(np.array(flags)), strict=True) if flag}

    def take(self, name: str) -> bool:
        """Go on: all have agreed on the checkpoints, and the first process holds the claims."""
        return True

    def settled(self, wanted: Wanted) -> None:
        return None

    def agreed(self, ok: bool) -> bool:
        return all_agree(ok)


def coordinator_of(work: Work, run: RunDirectory) -> Coordinator:
    """Coordinator of this process, in the form that the sweep asks for."""
    process = jax.process_index()
    if work.one_mesh:
        return OneMesh(run.claims(), first=process == 0)
    return Alone(run.claims(), work, run, process, jax.process_count())
