"""Values that the stages of a sweep hand on: a checkpoint wanted, fetched, ready, or why it goes no further."""

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.errors import InputError, StoppedError, WriteError
from jtrace.inference.residuals import PackedSets
from jtrace.models.sharding import Staged
from jtrace.runs.log import Span
from jtrace.sweep.check import Checked

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Wanted:
    """A checkpoint that this process is to trace.

    Attributes:
        label: its place in the sweep and its name, as people read them.
        held: leases of the budgets and params on the host, as stages take them. Whoever has the checkpoint last closes
            it, whatever stage it has come to; what it holds is released once.
    """

    ref: CheckpointRef
    label: str
    held: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True)
class Fetched:
    """A checkpoint whose files are on this machine.

    Attributes:
        packed: the statements, by its tokeniser.
        span: of the download; None for a local folder.
        fetched_bytes: moved over the network.
    """

    wanted: Wanted
    checked: Checked
    packed: PackedSets
    span: Span | None = None
    fetched_bytes: int = 0


@dataclass(frozen=True)
class Ready:
    """A checkpoint whose params are on the host, its content known.

    Attributes:
        span: of the reading.
    """

    fetched: Fetched
    staged: Staged
    span: Span

    @property
    def wanted(self) -> Wanted:
        """The checkpoint that was asked for."""
        return self.fetched.wanted


@dataclass(frozen=True)
class TracedElsewhere:
    """A checkpoint that another process has traced meanwhile."""

    wanted: Wanted


@dataclass(frozen=True)
class Failed:
    """A checkpoint that is not traced, and why. The exception itself is not kept: its traceback holds arrays.

    Attributes:
        reason: one line.
        traceback: of a fault that is not foreseen: for whoever mends it.
        refused: whether the run directory's disk took no file.
        on_record: whether the run's list of failures says so already.
    """

    wanted: Wanted
    reason: str
    traceback: str = ""
    refused: bool = False
    on_record: bool = False


def attempted(stage: Callable[[Given], Made], given: Given, wanted: Wanted) -> Made | Failed:
    """Call a stage with what it is given of a checkpoint: whatever is wrong with one, the others go on.

    Raises:
        StoppedError: the sweep is given up.
    """
    try:
        return stage(given)
    except StoppedError:
        raise
    except Exception as error:
        foreseen = isinstance(error, InputError)
        reason = " ".join((str(error) if foreseen else f"{type(error).__name__}: {error}").split())
        lines = "" if foreseen else "".join(traceback.format_exception(error))
        return Failed(wanted, reason, lines, refused=isinstance(error, WriteError))
