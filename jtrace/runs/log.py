"""The log of a sweep: when each checkpoint went through the pipeline, and what that took; a JSON line for each.

Several processes may append at once, and any of them may be killed half way through a line: what is not a whole line of
this form is passed over when the log is read.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jtrace.runtime.atomic import cannot_write
from jtrace.runtime.small_files import MissingFileError, parse_json, read_small

SPANS = ("fetch", "read", "extract", "statistics", "behaviour")
LARGEST_LOG = 1 << 30  # bytes; a checkpoint takes a thousand
MOST = 1 << 62  # bytes, tokens or seconds
AT_ONCE = ("fetch", "read", "compute")  # what a pipeline does at the same time, for different checkpoints


@dataclass(frozen=True)
class Span:
    """A time from start to end, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Best:
    """The highest probe accuracy of a checkpoint, over sets, layers and protocols."""

    dataset: str
    layer: int
    protocol: str
    probe_accuracy: float


@dataclass(frozen=True)
class CheckpointTiming:
    """One checkpoint's way through the pipeline.

    Attributes:
        time: when it was done; ISO, UTC.
        process: as `host:pid:began`, since containers and requeued jobs repeat host and pid.
        fetch: None for a local folder.
        behaviour: None where no task is asked.
        fetched_bytes: moved over the network.
        read_bytes: of the params on the host.
        memory_bytes: peak so far, of the accelerator where it tells, else of this process.
        disk_bytes: peak so far of the downloads that this sweep holds.
        best: None where no probe was fitted.
    """

    checkpoint: str
    time: str
    process: str
    fetch: Span | None
    read: Span
    extract: Span
    statistics: Span
    behaviour: Span | None
    fetched_bytes: int
    read_bytes: int
    tokens: int
    memory_bytes: int
    disk_bytes: int
    best: Best | None

    @property
    def compute(self) -> Span:
        """All that the device does, one checkpoint at a time."""
        ends = [span.end for span in (self.extract, self.statistics, self.behaviour) if span is not None]
        return Span(self.extract.start, max(ends))

    def span(self, stage: str) -> Span | None:
        """Span of a stage by name; None where the checkpoint has not gone through it."""
        return getattr(self, stage)

    def __str__(self) -> str:
        bytes_of = {"fetch": self.fetched_bytes, "read": self.read_bytes}
        parts = []
        for stage in ("fetch", "read", "extract", "behaviour", "statistics"):
            if (span := self.span(stage)) is not None:
                rate = bytes_per_second(bytes_of.get(stage, 0), span.seconds)
                if stage == "extract":
                    rate = tokens_per_second(self.tokens, span.seconds)
                parts.append(f"{stage} {span.seconds:.1f} s" + (f" ({rate})" if rate else ""))
        parts.append(f"memory {self.memory_bytes / 2**30:.1f} GiB")
        if self.best:
            parts.append(f"best probe {self.best.probe_accuracy:.2f} ({self.best.dataset}, layer {self.best.layer})")
        return ", ".join(parts)


@dataclass(frozen=True)
class Overlap:
    """Extent to which the stages of a pipeline hid each other; seconds, summed over processes.

    Attributes:
        wall: from a process's first start to its last end.
        fetch, read, compute: in which at least one checkpoint was in this stage.
    """

    wall: float
    fetch: float
    read: float
    compute: float

    @property
    def slowest(self) -> str:
        """The stage that nothing can hide."""
        return max(AT_ONCE, key=lambda stage: getattr(self, stage))

    @property
    def ratio(self) -> float:
        """Wall time over the slowest stage: 1 where everything else is hidden."""
        return self.wall / getattr(self, self.slowest)


def append(path: Path, passage: CheckpointTiming) -> None:
    """Add a line, in one write; after a line that a killed writer has cut short, a new one is begun.

    Raises:
        InputError: the disk is full, read-only or gone.
    """
    line = json.dumps(asdict(passage)).encode() + b"\n"
    try:
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.lseek(opened, 0, os.SEEK_END)
            if size and os.pread(opened, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(opened, line) < len(line):
                raise OSError(0, "disk full")
        finally:
            os.close(opened)
    except OSError as error:
        raise cannot_write(path, error) from None


def read(path: Path) -> list[CheckpointTiming]:
    """The passages in the order in which they were written; none if there is no file.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        lines = read_small(path, LARGEST_LOG, "delete or mend it").split(b"\n")
    except MissingFileError:
        return []
    return [passage for line in lines if (passage := _parsed(line)) is not None]


def by_process(passages: Iterable[CheckpointTiming]) -> list[list[CheckpointTiming]]:
    """Group passages by process, which are those of one command, by the time of its first start."""
    ordered = sorted(passages, key=lambda passage: (passage.process, _start(passage)))
    groups = [list(group) for _, group in groupby(ordered, key=lambda passage: passage.process)]
    return sorted(groups, key=lambda group: _start(group[0]))


def extent(passages: Sequence[CheckpointTiming]) -> Span:
    """Span from the first start to the last end; `passages` is not empty."""
    spans = [span for passage in passages for name in SPANS if (span := passage.span(name)) is not None]
    return Span(min(span.start for span in spans), max(span.end for span in spans))


def busy(passages: Iterable[CheckpointTiming], stage: str) -> float:
    """Seconds in which at least one checkpoint of a process was in a stage, summed over processes."""
    total = 0.0
    for group in by_process(passages):
        spans = [span for passage in group if (span := passage.span(stage)) is not None]
        until = -math.inf
        for span in sorted(spans, key=lambda span: span.start):
            total += max(0.0, span.end - max(span.start, until))
            until = max(until, span.end)
    return total


def overlap(passages: Sequence[CheckpointTiming]) -> Overlap | None:
    """Work out the overlap of the stages; None where nothing took any time."""
    wall = sum(extent(group).seconds for group in by_process(passages))
    overlapping = Overlap(wall, *(busy(passages, stage) for stage in AT_ONCE))
    return overlapping if getattr(overlapping, overlapping.slowest) > 0 else None


def duration(seconds: float) -> str:
    """Write a duration as `41.3 s`, `12.5 min` or `7.2 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def bytes_per_second(count: int, seconds: float) -> str:
    """Write a rate as `45 MB/s`; empty where nothing was moved or no time passed."""
    rate = count / seconds / 1e6 if count and seconds > 0 else 0.0
    return f"{rate:,.0f} MB/s" if rate >= 10 else f"{rate:.2g} MB/s" if rate else ""


def tokens_per_second(count: int, seconds: float) -> str:
    """Write a rate as `12,345 tokens/s`; empty where no time passed."""
    return f"{count / seconds:,.0f} tokens/s" if count and seconds > 0 else ""


def _start(passage: CheckpointTiming) -> float:
    return (passage.fetch or passage.read).start


def _parsed(line: bytes) -> CheckpointTiming | None:
    try:
        fields: dict[str, Any] = parse_json(line)
        spans = {name: Span(**fields[name]) if fields[name] is not None else None for name in SPANS}
        best = Best(**fields["best"]) if fields["best"] is not None else None
        passage = CheckpointTiming(**(fields | spans | {"best": best}))
        return passage if _is_well_formed(passage) else None
    except (ValueError, TypeError, KeyError):
        return None


def _is_well_formed(passage: CheckpointTiming) -> bool:
    spans = {name: passage.span(name) for name in SPANS}
    numbers = [time for span in spans.values() if span for time in (span.start, span.end)]
    counts = [passage.fetched_bytes, passage.read_bytes, passage.tokens, passage.memory_bytes, passage.disk_bytes]
    texts = [passage.checkpoint, passage.time, passage.process]
    if (best := passage.best) is not None:
        texts += [best.dataset, best.protocol]
        counts += [best.layer]
        numbers += [best.probe_accuracy]
    return (
        all(span or name in ("fetch", "behaviour") for name, span in spans.items())
        and all(isinstance(text, str) for text in texts)
        and all(type(count) is int and 0 <= count < MOST for count in counts)
        and all(type(number) in (int, float) and 0 <= number < MOST for number in numbers)
    )
