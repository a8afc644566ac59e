"""The first stage of a sweep: a checkpoint's files onto this machine, the small ones first, within the disk budget."""

import dataclasses
import sys
import time
from threading import Event

from tqdm import tqdm

from jtrace.checkpoints.refs import HubSource
from jtrace.errors import InputError, StoppedError
from jtrace.hub.client import SPARE_BYTES, Hub, UnreachableError
from jtrace.hub.files import Listing
from jtrace.probing.memory import check_memory, statistics_memory
from jtrace.runs.log import Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import Budget, bytes_text
from jtrace.sweep.check import check_checkpoint
from jtrace.sweep.eviction import Downloads
from jtrace.sweep.packer import Packer
from jtrace.sweep.work import Item, Limits, Work, check_room

# Seconds to wait for a hub that has answered before: an hour in all.
OUTAGES = (30, 60, 120, 240, 480, 960, 1800)
POLL = 2.0  # seconds between looks at the disk


class Fetcher:
    """Fetches one checkpoint after another, and evicts what has been traced."""

    def __init__(self, work: Work, limits: Limits, run: RunDirectory, hub: Hub, stop: Event, quiet: bool) -> None:
        self._work, self._limits, self._stop, self._quiet = work, limits, stop, quiet
        self._hub, self._patience, self._answered = hub, hub.waits, False
        self._disk = Budget(sys.maxsize if limits.disk_budget is None else limits.disk_budget, stop)
        self._downloads = Downloads(run.identity, hub, limits.keep_downloads)
        self._packer = Packer(work.sets, work.config.special_tokens)

    @property
    def peak(self) -> int:
        """The most bytes of downloads that were held."""
        return self._disk.peak

    @property
    def noted(self) -> list[str]:
        """Names of checkpoints that have files here, those that a killed process has left among them."""
        return self._downloads.noted()

    def fetch(self, item: Item) -> None:
        """Check a checkpoint's small files, then bring its weights here, as soon as the disk budget allows.

        Raises:
            InputError: it cannot be had, or does not fit statements, mesh or budgets.
            StoppedError: the sweep is given up.
        """
        ref, work = item.ref, self._work
        try:
            if not isinstance(ref.source, HubSource):
                self._check(item, None)
                return
            listing = work.listings.get(ref) or self._hub.look(ref.source.repo, ref.source.revision)
            self._make_room(item, listing)
            started = time.time()
            self._check(item, listing)
            self._download(item, listing)
            item.fetch = Span(started, time.time())
            self._hub, self._answered = dataclasses.replace(self._hub, waits=self._patience), True
        except UnreachableError:
            # One wait for an absent hub is enough, until it answers again.
            self._hub, self._answered = dataclasses.replace(self._hub, waits=()), False
            raise

    def release(self, item: Item) -> None:
        """Evict what was fetched of a checkpoint, traced or not."""
        self.evict(item.ref.name)
        self._disk.give_back(item.disk)

    def evict(self, name: str) -> None:
        """Remove what the run has brought of a checkpoint; where that fails, say so."""
        try:
            self._downloads.evict(name)
        except (OSError, InputError) as error:
            self._warn(f"{name}: its files stay in {self._hub.cache} ({getattr(error, 'strerror', None) or error})")

    def _check(self, item: Item, listing: Listing | None) -> None:
        checked = check_checkpoint(item.ref, listing, self._work.config, self._hub, self._work.tasks)
        work = self._work
        check_room(checked, work, self._limits)
        check_memory(checked.ref.name, statistics_memory(checked.read, work.sets, work.config.dtype, work.layout))
        item.packed = self._packer(checked.tokenizer, checked.architecture)
        item.checked = checked

    def _make_room(self, item: Item, listing: Listing) -> None:
        """Wait until the budget, and the disk itself, hold one more checkpoint; traced ones make room."""
        ours = self._downloads.note(item.ref, listing)
        if ours > self._disk.limit:
            raise InputError(
                f"--disk_budget={bytes_text(self._disk.limit)}: less than the checkpoint, {bytes_text(ours)}; give at "
                "least that"
            )
        self._disk.take(ours)
        item.disk, item.fetched_bytes = ours, self._hub.missing_bytes(listing)
        while self._disk.held > item.disk and self._hub.free_bytes() < item.fetched_bytes + SPARE_BYTES:
            if self._stop.wait(POLL):
                raise StoppedError

    def _download(self, item: Item, listing: Listing) -> None:
        """Bring the weights here. A hub that has answered so far and vanishes is waited for: outages last minutes."""
        outages = iter(OUTAGES)
        while True:
            try:
                self._hub.fetch(listing, None if self._quiet else item.label, self._stop)
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

    def _warn(self, line: str) -> None:
        tqdm.write(f"warning: {line}", file=sys.stderr)
