"""The first stage of a sweep: a checkpoint's files onto this machine, the small ones first, within the disk budget."""

import dataclasses
import sys
import time
from threading import Event

from tqdm import tqdm

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.errors import InputError, StoppedError
from jtrace.hub.client import SPARE_BYTES, Hub, UnreachableError
from jtrace.hub.files import Listing
from jtrace.inference.residuals import PackedSets
from jtrace.runs.log import Span
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import Budget, bytes_text
from jtrace.sweep.check import Checked, check_checkpoint
from jtrace.sweep.eviction import Downloads
from jtrace.sweep.packer import Packer
from jtrace.sweep.stages import Fetched, Wanted
from jtrace.sweep.work import Limits, Work, check_room

# Seconds to wait for a hub that has answered before: an hour in all.
OUTAGES = (30, 60, 120, 240, 480, 960, 1800)
POLL = 2.0  # seconds between looks at the disk


class Fetcher:
    """Fetches one checkpoint after another, and evicts those that are done with."""

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

    def fetch(self, wanted: Wanted) -> Fetched:
        """Check a checkpoint's small files, then bring its weights here, as soon as the disk budget allows.

        Raises:
            InputError: it cannot be had, or does not fit statements, mesh or budgets.
            StoppedError: the sweep is given up.
        """
        ref = wanted.ref
        try:
            if not isinstance(ref.source, HubSource):
                return Fetched(wanted, *self._checked(ref, None))
            listing = self._work.listings.get(ref) or self._hub.look(ref.source.repo, ref.source.revision)
            missing = self._make_room(wanted, listing)
            started = time.time()
            checked, packed = self._checked(ref, listing)
            self._download(wanted.label, listing)
            fetched = Fetched(wanted, checked, packed, Span(started, time.time()), missing)
            self._hub, self._answered = dataclasses.replace(self._hub, waits=self._patience), True
            return fetched
        except UnreachableError:
            # One wait for an absent hub is enough, until it answers again.
            self._hub, self._answered = dataclasses.replace(self._hub, waits=()), False
            raise

    def evict(self, name: str) -> None:
        """Remove the files that the run has brought of a checkpoint, traced or not; where that fails, say so."""
        try:
            self._downloads.evict(name)
        except (OSError, InputError) as error:
            self._warn(f"{name}: its files stay in {self._hub.cache} ({getattr(error, 'strerror', None) or error})")

    def _checked(self, ref: CheckpointRef, listing: Listing | None) -> tuple[Checked, PackedSets]:
        """Check a checkpoint's small files, and pack the statements by its tokeniser."""
        work = self._work
        checked = check_checkpoint(ref, listing, work.config, self._hub, work.tasks)
        check_room(checked, work, self._limits)
        return checked, self._packer(checked.tokenizer, checked.architecture)

    def _make_room(self, wanted: Wanted, listing: Listing) -> int:
        """Wait until the budget, and the disk itself, hold one more checkpoint; traced ones make room.

        Returns:
            How many bytes are to be downloaded; files that are here already count to the budget as well.
        """
        count = self._downloads.note(wanted.ref, listing)
        if count > self._disk.limit:
            raise InputError(
                f"--disk_budget={bytes_text(self._disk.limit)}: less than the checkpoint, {bytes_text(count)}; give at "
                "least that"
            )
        wanted.held.enter_context(self._disk.lease(count))
        missing = self._hub.missing_bytes(listing)
        while self._disk.held > count and self._hub.free_bytes() < missing + SPARE_BYTES:
            if self._stop.wait(POLL):
                raise StoppedError
        return missing

    def _download(self, label: str, listing: Listing) -> None:
        """Bring the weights here. A hub that has answered so far and vanishes is waited for: outages last minutes."""
        outages = iter(OUTAGES)
        while True:
            try:
                self._hub.fetch(listing, None if self._quiet else label, self._stop)
                return
            except UnreachableError as error:
                if not self._answered or self._answers(listing) or (wait := next(outages, None)) is None:
                    raise
                self._warn(f"{label}: {error}; again in {wait / 60:g} min")
            if self._stop.wait(wait):
                raise StoppedError

    def _answers(self, listing: Listing) -> bool:
        """Tell whether the hub does, so that the fault is one file's."""
        try:
            self._hub.revisions(listing.repo)
        except UnreachableError:
            return False
        return True

    def _warn(self, line: str) -> None:
        tqdm.write(f"warning: {line}", file=sys.stderr)
