"""A sweep: fetch │ read │ compute, each stage at a checkpoint of its own; what goes wrong stays with its checkpoint.

Fetching runs a few checkpoints ahead within the disk budget, reading one ahead within the memory budget, both in
threads; computing is the main thread's. A checkpoint is claimed before it is fetched, as several processes may share a
run.
"""

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import jax
import numpy as np
from tqdm import tqdm

from jtrace.checkpoints.load import Staged, params_bytes
from jtrace.checkpoints.orbax import stage_checkpoint
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.errors import InputError, StoppedError, WriteError
from jtrace.hub.client import Hub
from jtrace.models.decoder import Params
from jtrace.runs import log
from jtrace.runs.log import CheckpointTiming, Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import Budget
from jtrace.runtime.distributed import all_agree, from_first, share
from jtrace.runtime.prefetch import PrefetchIterator
from jtrace.runtime.progress import Bar
from jtrace.sweep.baselines import Baselines
from jtrace.sweep.check import Checked, changes, is_traced
from jtrace.sweep.checkpoint import peak_memory, trace_checkpoint
from jtrace.sweep.fetch import Fetcher
from jtrace.sweep.work import Item, Limits, Work, untraced

# Downloads are of uneven speed, and the first checkpoint compiles; more would be kept from other processes.
FETCHED_AHEAD, FOUND_AHEAD, READ_AHEAD = 4, 1, 1
# A disk that refused two checkpoints in a row refuses the others as well.
REFUSALS = 2
POLL = 2.0  # seconds between looks at what other processes are doing


class Pipeline:
    """One process's part of a sweep."""

    def __init__(self, work: Work, limits: Limits, run: RunDirectory, hub: Hub, quiet: bool = False) -> None:
        self.work, self.limits, self.run, self.quiet = work, limits, run, quiet
        self.failures: dict[str, str] = {}
        self._stop = threading.Event()
        self._memory = Budget(limits.memory_budget, self._stop)
        self._claims = run.claims()
        self._fetcher = Fetcher(work, limits, run, hub, self._stop, quiet)
        self._refused = 0
        self._began = datetime.now(UTC).isoformat(timespec="milliseconds")
        # Of processes that share a mesh, the first one writes.
        self._writes = not work.one_mesh or jax.process_index() == 0
        self._baselines = Baselines(
            work.sets, work.config.sound, run, work.layout, one_mesh=work.one_mesh, writes=self._writes
        )

    def go(self) -> None:
        """Trace every checkpoint that the run directory does not hold yet; `failures` says why some are not.

        Raises:
            InputError: it was given up, and why.
        """
        left = set(untraced(self.work, self.run))
        if traced := [ref for ref in self.work.refs if ref not in left]:
            self._say(f"{len(traced)} of {len(self.work.refs)} checkpoints are traced already")
            if self._writes:
                self.run.clear_failures(traced)
        self._evict_leftovers()
        items = self._items(left)
        remote = any(isinstance(item.ref.source, HubSource) for item in items)
        ahead = FETCHED_AHEAD if remote else FOUND_AHEAD
        label = None if self.quiet or len(items) < 2 else "sweep"
        try:
            with (
                PrefetchIterator(self._fetched(items), ahead, self._stop, "fetch") as fetched,
                PrefetchIterator(self._read(fetched), READ_AHEAD, self._stop, "read") as ready,
                Bar(desc=label, total=len(items), unit=" checkpoints") as bar,
            ):
                for item in ready:
                    self._finish(item)
                    bar.update()
        except KeyboardInterrupt:
            count = len(self.work.refs) - len(untraced(self.work, self.run))
            print(f"stopped with {count} of {len(self.work.refs)} checkpoints traced", file=sys.stderr)
            raise
        finally:
            self._claims.release_all()

    def _evict_leftovers(self) -> None:
        """Remove downloads of traced checkpoints that a process was killed before it could remove."""
        traced = {path.stem for path in self.run.tables()}
        for name in traced.intersection(self._fetcher.noted):
            if self._claims.take(name):
                self._fetcher.evict(name)
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
            elif changed := self._changes(item.ref):
                self._warn(f"{item.ref.name}: {changed} of {item.ref.source} changed since; it is traced again")
        return items

    def _changes(self, ref: CheckpointRef) -> str:
        try:
            return " and ".join(changes(ref, self.work.config, self.run))
        except InputError:  # another checkpoint's table: it fails by name when its turn comes
            return ""

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
                    self._fetcher.fetch(item)
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
        item.checked = checked.with_content()
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
            failed = False
        except Exception as error:  # whatever is wrong with one checkpoint, the others go on
            self._fail(item, error)
            failed = True
        item.error = None
        if failed:
            gc.collect()  # its traceback held arrays; a traced checkpoint's are deleted already
        # Not where an interrupt passes: the next command goes on with what has been downloaded.
        item.staged = None
        self._memory.give_back(item.memory)
        self._fetcher.release(item)
        self._claims.release(item.ref.name)

    def _trace(self, item: Item) -> None:
        assert item.checked is not None
        assert item.packed is not None
        assert item.staged is not None
        assert item.read is not None
        work, read_bytes = self.work, item.staged.nbytes
        label = None if self.quiet else item.label
        params = self._placed(item.staged)
        traced = trace_checkpoint(
            item.checked, item.packed, params, work, self._baselines, self.run, label, self._writes
        )
        passage = CheckpointTiming(
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
            disk_bytes=self._fetcher.peak,
            best=traced.best,
        )
        if self._writes:
            try:
                log.append(self.run.log_path, passage)
            except WriteError as error:  # the checkpoint is traced all the same
                self._warn(str(error))
        self._say(f"{item.label}: {passage}")
        for warning in traced.warnings:
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
        if self.limits.max_failures is not None and len(self.failures) >= self.limits.max_failures:
            raise InputError(
                f"given up after {len(self.failures)} failures, as --max_failures says; see "
                f"{self.run.path}/failures.jsonl; the same command goes on"
            )

    def _warn(self, line: str) -> None:
        tqdm.write(f"warning: {line}", file=sys.stderr)

    def _say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
