"""A sweep: fetch │ read │ compute, each stage at a checkpoint of its own; what goes wrong stays with its checkpoint.

Fetching runs a few checkpoints ahead within the disk budget, reading one ahead within the memory budget, both in
threads; computing is the main thread's. A checkpoint is claimed before it is fetched, as several processes may share a
run.
"""

import dataclasses
import functools
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import jax
import numpy as np
from tqdm import tqdm

from jtrace import log
from jtrace.background import Background
from jtrace.baselines import text_baseline
from jtrace.budget import Budget
from jtrace.checkpoints.convert import Staged, params_bytes
from jtrace.checkpoints.hub import SPARE_BYTES, Hub, UnreachableError
from jtrace.checkpoints.listing import Listing, bytes_text
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.checkpoints.store import stage_checkpoint
from jtrace.claims import Claims
from jtrace.data.statements import Statements
from jtrace.distributed import all_agree, from_first, share
from jtrace.downloads import Downloads
from jtrace.errors import InputError, StoppedError, WriteError
from jtrace.evaluation.task import Task
from jtrace.log import Passage, Span
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import Params
from jtrace.models.sharding import Layout, check_fits
from jtrace.results import RunDirectory
from jtrace.tracing import (
    Checked,
    Packer,
    SweepConfig,
    check_checkpoint,
    is_traced,
    peak_memory,
    trace_checkpoint,
)

# Downloads are of uneven speed, so two checkpoints may wait for the reader; more would be kept from other processes.
FETCHED_AHEAD, FOUND_AHEAD, READ_AHEAD = 2, 1, 1
# A disk that refused two checkpoints in a row refuses the others as well.
REFUSALS = 2
# Seconds to wait for a hub that has answered before: an hour in all.
OUTAGES = (30, 60, 120, 240, 480, 960, 1800)
POLL = 2.0  # seconds between looks at what other processes are doing


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


class Pipeline:
    """One process's part of a sweep."""

    def __init__(self, work: Work, limits: Limits, run: RunDirectory, hub: Hub, quiet: bool = False) -> None:
        self.work, self.limits, self.run, self.quiet = work, limits, run, quiet
        self.failures: dict[str, str] = {}
        self._hub, self._patience = hub, hub.waits
        self._stop = threading.Event()
        self._disk = Budget(sys.maxsize if limits.disk is None else limits.disk, self._stop)
        self._memory = Budget(limits.memory, self._stop)
        self._claims: Claims = run.claims()
        self._downloads = Downloads(run.identity, hub, limits.keep_downloads)
        self._packer = Packer(work.sets)
        self._baseline = functools.cache(text_baseline)
        self._refused = 0
        self._answered = False
        self._began = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Of processes that share a mesh, the first one writes.
        self._writes = not work.one_mesh or jax.process_index() == 0

    def go(self) -> None:
        """Trace every checkpoint that the run directory does not hold yet; `failures` says why some are not.

        Raises:
            InputError: it was given up, and why.
        """
        self._evict_leftovers()
        left = self._left()
        if traced := [ref for ref in self.work.refs if ref not in left]:
            self._say(f"{len(traced)} of {len(self.work.refs)} checkpoints are traced already")
            if self._writes:
                self.run.clear_failures(traced)
        items = self._items(left)
        remote = any(isinstance(item.ref.source, HubSource) for item in items)
        ahead = FETCHED_AHEAD if remote else FOUND_AHEAD
        # None shows the bar on terminals only.
        hidden = True if self.quiet or len(items) < 2 else None
        try:
            with (
                Background(self._fetched(items), ahead, self._stop, "fetch") as fetched,
                Background(self._read(fetched), READ_AHEAD, self._stop, "read") as ready,
                tqdm(desc="sweep", total=len(items), unit=" checkpoints", leave=False, disable=hidden) as bar,
            ):
                for item in ready:
                    self._finish(item)
                    bar.update()
        except KeyboardInterrupt:
            count = len(self.work.refs) - len(self._left())
            print(f"stopped with {count} of {len(self.work.refs)} checkpoints traced", file=sys.stderr)
            raise
        finally:
            self._claims.release_all()

    def _evict_leftovers(self) -> None:
        """Remove downloads of traced checkpoints that a process was killed before it could remove."""
        for name in self._downloads.noted():
            if (self.run.path / "metrics" / f"{name}.parquet").is_file() and self._claims.take(name):
                self._evict(name)
                self._claims.release(name)

    def _items(self, left: set[CheckpointRef]) -> list[Item]:
        """What this process is to do: its share, or, where all processes share a mesh, what they have agreed on."""
        refs = self.work.refs
        if self.work.one_mesh:
            mine = [ref in left and (not self._writes or self._claims.take(ref.name)) for ref in refs]
            left = {ref for ref, wanted in zip(refs, from_first(np.array(mine)), strict=True) if wanted}
        else:
            # Of all, not of what is left, which another process may see otherwise a moment later.
            left &= set(share(refs, jax.process_index(), jax.process_count()))
        items = [Item(ref, f"[{at}/{len(refs)}] {ref.name}") for at, ref in enumerate(refs, 1) if ref in left]
        for item in items:
            if self.run.is_damaged(item.ref):
                self._warn(f"{self.run.table_path(item.ref)} is damaged; its checkpoint is traced again")
        return items

    def _left(self) -> set[CheckpointRef]:
        """Those that are not traced; one whose table is another checkpoint's is among them, and fails by name."""
        left = set()
        for ref in self.work.refs:
            try:
                traced = is_traced(ref, self.work.sets, self.work.config, self.run, self.work.tasks)
            except InputError:
                traced = False
            if not traced:
                left.add(ref)
        return left

    def _fetched(self, items: Sequence[Item]) -> Iterator[Item]:
        """Fetch one after another; what other processes have comes last, once they have let go of it."""
        elsewhere = yield from self._visited(items)
        if elsewhere:
            self._say(f"waiting for {len(elsewhere)} checkpoints that other processes trace")
        while elsewhere and not self._stop.wait(POLL):
            elsewhere = yield from self._visited(elsewhere)

    def _visited(self, items: Sequence[Item]) -> Generator[Item, None, list[Item]]:
        """Fetch those that no other process has claimed; returns the others."""
        elsewhere = []
        for item in items:
            if self._stop.is_set():
                return []
            try:
                # Processes that share a mesh have agreed on all checkpoints, and go through them in step.
                if not self.work.one_mesh and not self._claims.take(item.ref.name):
                    elsewhere.append(item)
                    continue
                if self.work.one_mesh or not self._is_settled(item):
                    self._fetch(item)
            except StoppedError:
                return []
            except Exception as error:  # whatever is wrong with one checkpoint, the others go on
                item.error = error
            yield item
        return elsewhere

    def _is_settled(self, item: Item) -> bool:
        """Whether another process has traced it, or failed to, since this one began."""
        ref = item.ref
        if is_traced(ref, self.work.sets, self.work.config, self.run, self.work.tasks):
            item.done = True
        elif (failure := self.run.failures().get(ref.name)) and failure["time"] >= self._began:
            item.error, item.told = InputError(failure["error"]), True
        return item.done or item.told

    def _fetch(self, item: Item) -> None:
        """Check a checkpoint's small files, then bring its weights here, as soon as the disk budget allows."""
        ref, work = item.ref, self.work
        try:
            listing = None
            if isinstance(ref.source, HubSource):
                listing = work.listings.get(ref) or self._hub.look(ref.source.repo, ref.source.revision)
            item.checked = check_checkpoint(ref, listing, work.config, self._packer, self._hub, work.tasks)
            check_room(ref.name, item.checked.read, work, self.limits)
            if listing is None:
                return
            ours = self._downloads.note(ref, listing)
            if ours > self._disk.limit:
                raise InputError(
                    f"--disk_budget={bytes_text(self._disk.limit)}: less than the checkpoint, {bytes_text(ours)}; "
                    "give at least that"
                )
            self._disk.take(ours)
            item.disk = ours
            item.fetched_bytes = self._hub.missing_bytes(listing)
            while self._disk.held > item.disk and self._hub.free_bytes() < item.fetched_bytes + SPARE_BYTES:
                if self._stop.wait(POLL):  # traced checkpoints make room
                    raise StoppedError
            started = time.time()
            self._download(item, listing)
            item.fetch = Span(started, time.time())
            self._hub, self._answered = dataclasses.replace(self._hub, waits=self._patience), True
        except UnreachableError:
            # One wait for an absent hub is enough, until it answers again.
            self._hub, self._answered = dataclasses.replace(self._hub, waits=()), False
            raise

    def _download(self, item: Item, listing: Listing) -> None:
        """Bring the weights here. A hub that has answered so far and vanishes is waited for: outages last minutes."""
        outages = iter(OUTAGES)
        while True:
            try:
                self._hub.fetch(listing, None if self.quiet else item.label, self._stop)
                return
            except UnreachableError as error:
                if not self._answered or self._answers(listing) or (wait := next(outages, None)) is None:
                    raise
                self._warn(f"{item.label}: {error}; again in {wait / 60:g} min")
            if self._stop.wait(wait):
                raise StoppedError

    def _answers(self, listing: Listing) -> bool:
        """Whether the hub does, so that the fault is one file's."""
        try:
            self._hub.revisions(listing.repo)
        except UnreachableError:
            return False
        return True

    def _read(self, fetched: Iterable[Item]) -> Iterator[Item]:
        """Read one after another onto the host, as soon as the memory budget allows."""
        for item in fetched:
            if item.checked is not None and item.error is None:
                try:
                    self._stage(item, item.checked)
                except StoppedError:
                    return
                except Exception as error:  # whatever is wrong with one checkpoint, the others go on
                    item.error = error
            yield item

    def _stage(self, item: Item, checked: Checked) -> None:
        count = params_bytes(checked.read, self.work.config.dtype, self.work.layout)
        self._memory.take(count)
        item.memory = count
        started = time.time()
        item.staged = stage_checkpoint(
            checked.folder, self.work.config.dtype, checked.read.depth, self.work.layout, self._stop
        )
        item.read = Span(started, time.time())

    def _finish(self, item: Item) -> None:
        """Trace what has been read, or say why it was not; then let go of all that it held."""
        try:
            if self.work.one_mesh and not all_agree(item.error is None) and item.error is None:
                item.error = InputError("another process of the mesh could not read it")
            if item.error is not None:
                raise item.error
            if not item.done:
                self._trace(item)
            if self._writes:
                self.run.clear_failures([item.ref])
            self._refused = 0
        except Exception as error:  # whatever is wrong with one checkpoint, the others go on
            item.error = error
            self._fail(item, error)
        if item.error is not None:
            item.error = None
            gc.collect()  # its traceback held arrays; a traced checkpoint's are deleted already
        # Not where an interrupt passes: the next command goes on with what has been downloaded.
        item.staged = None
        self._memory.give_back(item.memory)
        self._evict(item.ref.name)
        self._disk.give_back(item.disk)
        self._claims.release(item.ref.name)

    def _trace(self, item: Item) -> None:
        assert item.checked is not None
        assert item.staged is not None
        assert item.read is not None
        work, read_bytes = self.work, item.staged.nbytes
        label = None if self.quiet else item.label
        params = self._placed(item.staged)
        traced = trace_checkpoint(
            item.checked, params, work.sets, work.config, self._baseline, self.run,
            work.tasks, work.layout, label, self._writes,
        )  # fmt: skip
        passage = Passage(
            checkpoint=item.ref.name,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            process=f"{socket.gethostname()}:{os.getpid()}:{self._began}",
            fetch=item.fetch,
            read=item.read,
            extract=traced.extract,
            statistics=traced.statistics,
            behaviour=traced.behaviour,
            fetched_bytes=item.fetched_bytes,
            read_bytes=read_bytes,
            tokens=traced.tokens,
            memory_bytes=peak_memory(),
            disk_bytes=self._disk.peak,
            best=traced.best,
        )
        if self._writes:
            try:
                log.append(self.run.log_path, passage)
            except WriteError as error:  # the checkpoint is traced all the same
                self._warn(str(error))
        self._say(f"{item.label}: {passage}")
        for warning in filter(None, (item.ref.warning, *traced.warnings)):
            self._warn(f"{item.ref.name}: {warning}")

    def _placed(self, staged: Staged) -> Params:
        """The params on their devices, in every process of a mesh or in none."""
        if not self.work.one_mesh:
            return staged.placed()
        params, failed = None, None
        try:
            params = staged.placed()
        except Exception as error:
            failed = error
        if not all_agree(failed is None) or params is None:
            raise failed or InputError("another process of the mesh has no room for it")
        return params

    def _fail(self, item: Item, error: Exception) -> None:
        """Say and note why a checkpoint is not traced.

        Raises:
            InputError: the sweep is to be given up.
        """
        reason = " ".join((str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}").split())
        self.failures[item.ref.name] = reason
        tqdm.write(f"error: {item.label}: {reason}", file=sys.stderr)
        self._refused = self._refused + 1 if isinstance(error, WriteError) else 0
        if self._writes and not item.told:
            try:
                self.run.record_failure(item.ref, reason)
            except WriteError:
                self._refused += 1
        if self._refused >= REFUSALS:
            raise InputError(
                f"{self.run.path}: takes no files any more; free or mend its disk, the same command goes on"
            )
        if self.limits.failures is not None and len(self.failures) >= self.limits.failures:
            raise InputError(
                f"given up after {len(self.failures)} failures, as --max_failures says; see "
                f"{self.run.path}/failures.jsonl; the same command goes on"
            )

    def _evict(self, name: str) -> None:
        try:
            self._downloads.evict(name)
        except OSError as error:
            self._warn(f"{name}: its files stay in {self._hub.cache} ({error.strerror or error})")

    def _warn(self, line: str) -> None:
        tqdm.write(f"warning: {line}", file=sys.stderr)

    def _say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
