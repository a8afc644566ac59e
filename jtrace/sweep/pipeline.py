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
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from tqdm import tqdm

from jtrace.checkpoints.load import params_bytes
from jtrace.checkpoints.orbax import stage_checkpoint
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.errors import InputError, StoppedError, WriteError
from jtrace.hub.client import Hub
from jtrace.models.decoder import Params
from jtrace.models.sharding import Staged
from jtrace.runs import log
from jtrace.runs.log import CheckpointTiming, Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import Budget
from jtrace.runtime.prefetch import PrefetchIterator
from jtrace.runtime.progress import Bar
from jtrace.sweep.baselines import Baselines
from jtrace.sweep.check import changes
from jtrace.sweep.checkpoint import Traced, peak_memory, trace_checkpoint
from jtrace.sweep.coordinator import Coordinator, timestamp
from jtrace.sweep.fetch import Fetcher
from jtrace.sweep.stages import Failed, Fetched, Ready, TracedElsewhere, Wanted, attempted
from jtrace.sweep.work import Limits, Work, untraced

# Downloads are of uneven speed, and the first checkpoint compiles; more would be kept from other processes.
FETCHED_AHEAD, FOUND_AHEAD, READ_AHEAD = 4, 1, 1
# A disk that refused two checkpoints in a row refuses the others as well.
REFUSALS = 2
POLL = 2.0  # seconds between looks at what other processes are doing


class Pipeline:
    """One process's part of a sweep."""

    def __init__(
        self,
        work: Work,
        limits: Limits,
        run: RunDirectory,
        hub: Hub,
        coordinator: Coordinator,
        quiet: bool = False,
        lines: bool = True,
    ) -> None:
        self.work, self.limits, self.run, self.quiet, self.lines = work, limits, run, quiet, lines
        self.failures: dict[str, str] = {}
        self._stop = threading.Event()
        self._memory = Budget(limits.memory_budget, self._stop)
        self._coordinator = coordinator
        self._fetcher = Fetcher(work, limits, run, hub, self._stop, quiet)
        self._baselines = Baselines(work.sets, work.config.sound, run, coordinator, work.layout)
        self._process = f"{socket.gethostname()}:{os.getpid()}:{timestamp()}"
        self._refused = 0

    def go(self) -> None:
        """Trace every checkpoint that the run directory does not hold yet; `failures` says why some are not.

        Raises:
            InputError: it was given up, and why.
        """
        left = set(untraced(self.work, self.run))
        if traced := [ref for ref in self.work.refs if ref not in left]:
            self._say(f"{len(traced)} of {len(self.work.refs)} checkpoints are traced already")
            if self._coordinator.writes:
                self.run.clear_failures(traced)
        self._evict_leftovers()
        share = self._share(left)
        remote = any(isinstance(wanted.ref.source, HubSource) for wanted in share)
        ahead = FETCHED_AHEAD if remote else FOUND_AHEAD
        label = None if self.quiet or len(share) < 2 else "sweep"
        try:
            with (
                PrefetchIterator(self._fetched(share), ahead, self._stop, "fetch") as fetched,
                PrefetchIterator(self._read(fetched), READ_AHEAD, self._stop, "read") as ready,
                Bar(desc=label, total=len(share), unit=" checkpoints") as bar,
            ):
                for arrived in ready:
                    self._finish(arrived)
                    bar.update()
        except KeyboardInterrupt:
            count = len(self.work.refs) - len(untraced(self.work, self.run))
            print(f"stopped with {count} of {len(self.work.refs)} checkpoints traced", file=sys.stderr)
            raise
        finally:
            self._coordinator.claims.release_all()

    def _evict_leftovers(self) -> None:
        """Remove downloads of traced checkpoints that a process was killed before it could remove."""
        traced, claims = {path.stem for path in self.run.tables()}, self._coordinator.claims
        for name in traced.intersection(self._fetcher.noted):
            if claims.take(name):
                self._fetcher.evict(name)
                claims.release(name)

    def _share(self, left: set[CheckpointRef]) -> list[Wanted]:
        """This process's share of what is left, in order; of checkpoints that are traced again, say why."""
        refs = self.work.refs
        share = self._coordinator.share_out(refs, left)
        for ref in (ref for ref in refs if ref in share):
            if self.run.is_damaged(ref):
                self._warn(f"{self.run.table_path(ref)} is damaged; its checkpoint is traced again")
            elif changed := self._changes(ref):
                self._warn(f"{ref.name}: {changed} of {ref.source} changed since; it is traced again")
        return [Wanted(ref, f"[{at}/{len(refs)}] {ref.name}") for at, ref in enumerate(refs, 1) if ref in share]

    def _changes(self, ref: CheckpointRef) -> str:
        try:
            return " and ".join(changes(ref, self.work.config, self.run))
        except InputError:  # another checkpoint's table: it fails by name when its turn comes
            return ""

    def _fetched(self, share: Sequence[Wanted]) -> Iterator[Fetched | TracedElsewhere | Failed]:
        """Fetch one after another; what other processes have comes last, once they have let go of it."""
        with suppress(StoppedError):
            elsewhere = yield from self._visited(share)
            if elsewhere:
                self._say(f"waiting for {len(elsewhere)} checkpoints that other processes trace")
            while elsewhere and not self._stop.wait(POLL):
                elsewhere = yield from self._visited(elsewhere)

    def _visited(self, share: Sequence[Wanted]) -> Generator[Fetched | TracedElsewhere | Failed, None, list[Wanted]]:
        """Fetch those that no other process has claimed; returns the others."""
        elsewhere: list[Wanted] = []
        for wanted in share:
            if self._stop.is_set():
                raise StoppedError
            if (outcome := attempted(self._fetch, wanted, wanted)) is None:
                elsewhere.append(wanted)
            else:
                yield outcome
        return elsewhere

    def _fetch(self, wanted: Wanted) -> Fetched | TracedElsewhere | Failed | None:
        """Fetch a checkpoint that is not settled; None while another process has it."""
        if not self._coordinator.take(wanted.ref.name):
            return None
        return self._coordinator.settled(wanted) or self._fetcher.fetch(wanted)

    def _read(
        self, fetched: Iterable[Fetched | TracedElsewhere | Failed]
    ) -> Iterator[Ready | TracedElsewhere | Failed]:
        """Read one after another onto the host, as soon as the memory budget allows."""
        with suppress(StoppedError):
            for each in fetched:
                yield attempted(self._stage, each, each.wanted) if isinstance(each, Fetched) else each

    def _stage(self, fetched: Fetched) -> Ready:
        checked, held = fetched.checked, fetched.wanted.held
        dtype, layout = self.work.config.dtype, self.work.layout
        held.enter_context(self._memory.lease(params_bytes(checked.read, dtype, layout)))
        started = time.time()
        checked = checked.with_content()
        staged = stage_checkpoint(checked.folder, dtype, checked.read.depth, layout, self._stop)
        held.callback(staged.params.clear)  # where they do not get to the devices
        return Ready(replace(fetched, checked=checked), staged, Span(started, time.time()))

    def _finish(self, arrived: Ready | TracedElsewhere | Failed) -> None:
        """Trace what has been read, or say why it was not; then let go of all that it held."""
        wanted = arrived.wanted
        outcome = attempted(self._conclude, arrived, wanted)
        if outcome is None:
            self._refused = 0
        else:
            self._fail(outcome)
            gc.collect()  # its traceback held arrays; a traced checkpoint's are deleted already
        # Not where an interrupt passes: the next command goes on with what has been downloaded.
        self._fetcher.evict(wanted.ref.name)  # before its bytes count as free
        wanted.held.close()
        self._coordinator.claims.release(wanted.ref.name)

    def _conclude(self, arrived: Ready | TracedElsewhere | Failed) -> Failed | None:
        """Trace what has been read, if it has been in every process that goes in step; None where it is traced."""
        is_read = not isinstance(arrived, Failed)
        if not self._coordinator.agreed(is_read) and is_read:
            raise InputError("another process of the mesh could not read it")
        if isinstance(arrived, Failed):
            return arrived
        if isinstance(arrived, Ready):
            self._trace(arrived)
        if self._coordinator.writes:
            self.run.clear_failures([arrived.wanted.ref])
        return None

    def _trace(self, ready: Ready) -> None:
        checked, wanted, read_bytes = ready.fetched.checked, ready.wanted, ready.staged.nbytes
        label = None if self.quiet else wanted.label
        params = self._placed(ready.staged)
        traced = trace_checkpoint(
            checked,
            ready.fetched.packed,
            params,
            self.work,
            self._baselines,
            self.run,
            label,
            self._coordinator.writes,
        )
        timing = self._timing(ready, traced, read_bytes)
        if self._coordinator.writes:
            try:
                log.append(self.run.log_path, timing)
            except WriteError as error:  # the checkpoint is traced all the same
                self._warn(str(error))
        self._say(f"{wanted.label}: {timing}")
        for warning in traced.warnings:
            self._warn(f"{wanted.ref.name}: {warning}")

    def _timing(self, ready: Ready, traced: Traced, read_bytes: int) -> CheckpointTiming:
        return CheckpointTiming(
            checkpoint=ready.wanted.ref.name,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            process=self._process,
            fetch=ready.fetched.span,
            read=ready.span,
            extract=traced.extract,
            statistics=traced.statistics,
            behaviour=traced.behaviour,
            fetched_bytes=ready.fetched.fetched_bytes,
            read_bytes=read_bytes,
            tokens=traced.tokens,
            memory_bytes=peak_memory(),
            disk_bytes=self._fetcher.peak,
            best=traced.best,
        )

    def _placed(self, staged: Staged) -> Params:
        """The params on their devices, in every process that goes in step or in none."""
        params, failed = None, None
        try:
            params = staged.placed()
        except Exception as error:
            failed = error
        if not self._coordinator.agreed(failed is None) or params is None:
            raise failed or InputError("another process of the mesh has no room for it")
        return params

    def _fail(self, failed: Failed) -> None:
        """Say and note why a checkpoint is not traced.

        Raises:
            InputError: the sweep is to be given up.
        """
        wanted, reason = failed.wanted, failed.reason
        self.failures[wanted.ref.name] = reason
        tqdm.write(f"error: {wanted.label}: {reason}", file=sys.stderr)
        self._refused = self._refused + 1 if failed.refused else 0
        if self._coordinator.writes and not failed.on_record:
            try:
                self.run.record_failure(wanted.ref, reason, failed.traceback)
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
        if self.lines and not self.quiet:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
