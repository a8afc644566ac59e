"""A sweep: checks before anything moves, then the pipeline over all checkpoints."""

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.hub.client import Hub, UnreachableError
from jtrace.hub.files import Listing
from jtrace.probing.paper import check_paper_rows
from jtrace.probing.sound_set import sound_set
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.budget import bytes_text
from jtrace.runtime.names import check_name
from jtrace.runtime.progress import Bar
from jtrace.sweep.check import check_checkpoint
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.coordinator import coordinator_of
from jtrace.sweep.pipeline import Pipeline
from jtrace.sweep.work import Limits, Work, check_room

LOOKS_AT_ONCE = 8


def sweep(
    work: Work, limits: Limits, run: RunDirectory, hub: Hub, *, quiet: bool = False, lines: bool = True
) -> dict[str, str]:
    """Trace every checkpoint that the run directory does not hold yet.

    Args:
        quiet: show no bars and print no lines.
        lines: print a line per checkpoint on standard output.

    Returns:
        The reason for each checkpoint that this process could not trace, by name; empty if there is none.

    Raises:
        InputError: the sweep was given up.
    """
    pipeline = Pipeline(work, limits, run, hub, coordinator_of(work, run), quiet, lines)
    pipeline.go()
    return pipeline.failures


def look_at_all(refs: Sequence[CheckpointRef], hub: Hub) -> list[Listing | InputError | None]:
    """Ask the hub for the files of each checkpoint: a listing, or why there is none; None for local folders."""
    asked = hub

    def look(ref: CheckpointRef) -> Listing | InputError | None:
        nonlocal asked
        if not isinstance(ref.source, HubSource):
            return None
        try:
            return asked.look(ref.source.repo, ref.source.revision)
        except UnreachableError as error:
            asked = dataclasses.replace(hub, waits=())  # one wait for an absent hub is enough
            return error
        except InputError as error:
            return error

    remote = sum(isinstance(ref.source, HubSource) for ref in refs)
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        label = "sizes" if remote > 1 else None  # a single one needs no bar
        return list(Bar(pool.map(look, refs), label, total=len(refs), unit=" checkpoints"))


def list_remote(left: Sequence[CheckpointRef], hub: Hub) -> dict[CheckpointRef, Listing]:
    """Ask the hub for the files of checkpoints that are to be traced; those that it does not list will fail by name."""
    remote = [ref for ref in left if isinstance(ref.source, HubSource)]
    # A single one is looked at when its turn comes.
    listings = look_at_all(remote, hub) if len(remote) > 1 else []
    return {ref: listing for ref, listing in zip(remote, listings, strict=False) if isinstance(listing, Listing)}


def check_disk(listings: Mapping[CheckpointRef, Listing], limits: Limits, hub: Hub) -> None:
    """Refuse downloads that do not fit, one after another.

    Raises:
        InputError: the disk, or its budget, cannot hold the largest checkpoint, or all of them if they are to stay.
    """
    sizes = {ref: hub.missing_bytes(listing) for ref, listing in listings.items()}
    if not sizes:
        return
    largest = max(sizes, key=lambda ref: sizes[ref])
    needed = [*listings.values()] if limits.keep_downloads else [listings[largest]]
    hub.check_space(needed)
    count, budget = hub.missing_bytes(*needed), limits.disk_budget
    if budget is not None and count > budget:
        what = f"{len(needed)} checkpoints to keep" if limits.keep_downloads else largest.name
        raise InputError(
            f"--disk_budget={bytes_text(budget)}: less than {what}, {bytes_text(count)}; give at least that"
        )


def check_models(left: Sequence[CheckpointRef], work: Work, limits: Limits, hub: Hub) -> None:
    """Refuse at once what would fail every checkpoint of a model; what is wrong with a single one is its own failure.

    Raises:
        InputError: a mesh that does not divide the model, a memory budget that does not hold it, or statistics that
            take more memory than there is.
    """
    for ref in {ref.model: ref for ref in reversed(left)}.values():
        listing = work.listings.get(ref)
        if isinstance(ref.source, HubSource) and listing is None:
            continue
        try:
            checked = check_checkpoint(ref, listing, work.config, hub, work.tasks)
        except InputError:
            continue
        check_room(checked, work, limits)


def check_sets(sets: Sequence[Statements], config: SweepConfig) -> None:
    """Refuse a set that cannot be split as the protocols ask, or that no file can be called by.

    Raises:
        InputError: too few rows or groups, a label that a part of a split would lack, or too long a name.
    """
    for statements in sets:
        check_name(statements.name, "--statements:")
        check_paper_rows(statements)
        if config.is_sound:
            sound_set(statements, config.sound)
