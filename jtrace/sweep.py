"""The tracing command: what it may use, the pipeline over its checkpoints, and what it ends with."""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from jtrace import linter
from jtrace.checkpoints.hub import Hub, UnreachableError
from jtrace.checkpoints.listing import Listing, bytes_text
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data.statements import Statements
from jtrace.distributed import wait_for_all
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.figures import draw_all
from jtrace.models.sharding import Layout
from jtrace.pipeline import Pipeline
from jtrace.results import RunDirectory, open_run
from jtrace.summary import as_text, best_layers
from jtrace.trace import check_paper_rows
from jtrace.tracing import SweepConfig, is_traced, read_architecture, wanted_layers
from jtrace.vectors import MASS_MEAN
from jtrace.work import Limits, Work, check_room

LOOKS_AT_ONCE = 8
# Of the machine's memory, for params on the host; statements, packing and what else runs need the rest.
MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Means:
    """What a sweep may use, as the user says it; None where the machine decides.

    Attributes:
        disk_budget: bytes of downloads at once; by default what is free.
        memory_budget: bytes of params on the host at once; by default most of the machine's memory.
        keep_downloads: whether downloads stay in the cache once they are traced.
        max_failures: give up after so many; None for never.
        layout: a mesh; None for one device.
        one_mesh: whether the mesh spans all processes.
    """

    disk_budget: int | None = None
    memory_budget: int | None = None
    keep_downloads: bool = False
    max_failures: int | None = None
    layout: Layout | None = None
    one_mesh: bool = False


def trace_into(
    out: Path,
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    hub: Hub | None = None,
    tasks: Sequence[Task] = (),
    means: Means | None = None,
) -> int:
    """A whole tracing command: open the run, trace what is missing, draw the figures, print the summary.

    Args:
        hub: where checkpoints that are not local folders come from; None is the default hub and cache.
        tasks: that each checkpoint is asked, without steering, once it is traced.

    Returns:
        The exit status: 0 if every checkpoint is traced, 1 otherwise.

    Raises:
        InputError: nothing could be started, or the sweep was given up.
    """
    for statements in sets:
        check_paper_rows(statements)
    first, hub, means = jax.process_index() == 0, hub or Hub(), means or Means()
    run, data = RunDirectory(out), {s.name: s.fingerprint for s in sets}
    with ExitStack() as hold:
        if first:
            open_run(out, config.record(), data, [ref.name for ref in refs], {s.name: _about(s) for s in sets}, hold)
        wait_for_all("the run directory")
        listings = _listings(refs, sets, config, run, hub, tasks)
        work = Work(refs, sets, config, tasks, listings, means.layout, means.one_mesh)
        allowed = limits(listings, means, hub)
        _check_models(work, allowed, run, hub)
        if first:
            for statements in sets:
                print(linter.as_text(statements.name, linter.lint(statements)), file=sys.stderr)
        failures = sweep(work, allowed, run, hub)
        wait_for_all("the last checkpoint")
    if not first:
        return 1 if failures else 0
    _conclude(run, config)
    return _status(work, run, failures)


def _status(work: Work, run: RunDirectory, failures: Mapping[str, str]) -> int:
    """0 if every checkpoint is traced, by whichever process; says how many are not."""
    left = [ref.name for ref in work.refs if not _traced(ref, work.sets, work.config, run, work.tasks)]
    on_record = run.failures()
    failed = [name for name in left if name in failures or name in on_record]
    if failed:
        print(f"{len(failed)} of {len(work.refs)} checkpoints failed, see {run.path}/failures.jsonl", file=sys.stderr)
    if len(left) > len(failed):
        print(
            f"{len(left) - len(failed)} of {len(work.refs)} checkpoints were left to another command; this one goes on "
            "with what is missing",
            file=sys.stderr,
        )
    return 1 if left or failures else 0


def sweep(work: Work, allowed: Limits, run: RunDirectory, hub: Hub, *, quiet: bool = False) -> dict[str, str]:
    """Trace every checkpoint that the run directory does not hold yet.

    Returns:
        The reason for each checkpoint that this process could not trace, by name; empty if there is none.

    Raises:
        InputError: the sweep was given up.
    """
    pipeline = Pipeline(work, allowed, run, hub, quiet)
    pipeline.go()
    return pipeline.failures


def _conclude(run: RunDirectory, config: SweepConfig) -> None:
    """Tables, vectors and figures of all that has been traced."""
    metrics = run.read_metrics()
    if not len(metrics):
        return
    for protocol in config.protocols:
        print(f"\nprotocol {protocol}, at the layer of the highest probe accuracy:\n")
        print(as_text(best_layers(metrics, protocol)))
    vectors = [run.path / "vectors" / ("" if kind == MASS_MEAN else kind) for kind in config.vector_kinds]
    print(f"\ntables   {run.path}/metrics/*.parquet")
    print("vectors  " + "\n         ".join(f"{folder}/*.safetensors" for folder in vectors))
    figures = draw_all(run, metrics)
    print("figures  " + "\n         ".join(str(figure.path) for figure in figures))
    for warning in run.audit():
        print(f"warning: {warning}", file=sys.stderr)


def look_at_all(refs: Sequence[CheckpointRef], hub: Hub) -> list[Listing | InputError | None]:
    """What the hub lists for each checkpoint, or why it does not; None for local folders."""

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
        # A single one needs no bar; None shows it on terminals only.
        disable = None if remote > 1 else True
        return list(tqdm(pool.map(look, refs), "sizes", len(refs), unit=" checkpoints", leave=False, disable=disable))


def _listings(
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    run: RunDirectory,
    hub: Hub,
    tasks: Sequence[Task],
) -> dict[CheckpointRef, Listing]:
    """What the hub lists for each checkpoint that is to be traced; those that it does not list will fail by name."""
    remote = [ref for ref in refs if isinstance(ref.source, HubSource) and not _traced(ref, sets, config, run, tasks)]
    # A single one is looked at when its turn comes.
    found = look_at_all(remote, hub) if len(remote) > 1 else []
    return {ref: listing for ref, listing in zip(remote, found, strict=False) if isinstance(listing, Listing)}


def limits(listings: Mapping[CheckpointRef, Listing], means: Means, hub: Hub) -> Limits:
    """The budgets.

    Raises:
        InputError: the disk, or its budget, cannot hold the largest checkpoint, or all of them if they are to stay.
    """
    sizes = {ref: hub.missing_bytes(listing) for ref, listing in listings.items()}
    if sizes:
        largest = max(sizes, key=lambda ref: sizes[ref])
        needed = [*listings.values()] if means.keep_downloads else [listings[largest]]
        hub.check_space(needed)
        count, budget = hub.missing_bytes(*needed), means.disk_budget
        if budget is not None and count > budget:
            what = f"{len(needed)} checkpoints to keep" if means.keep_downloads else largest.name
            raise InputError(
                f"--disk_budget={bytes_text(budget)}: less than {what}, {bytes_text(count)}; give at least that"
            )
    return Limits(
        disk=means.disk_budget,
        memory=int(MEMORY_SHARE * _memory()) if means.memory_budget is None else means.memory_budget,
        keep_downloads=means.keep_downloads,
        failures=means.max_failures,
    )


def _memory() -> int:
    """Bytes of the machine, or what a container or a SLURM job may have of them."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such bound, or "max"
        return memory


def _check_models(work: Work, allowed: Limits, run: RunDirectory, hub: Hub) -> None:
    """Refuse at once what would fail every checkpoint of a model; what is wrong with a single one is its own failure.

    Raises:
        InputError: a mesh that does not divide the model, or a memory budget that does not hold it.
    """
    for ref in {ref.model: ref for ref in reversed(work.refs)}.values():
        listing = work.listings.get(ref)
        if _traced(ref, work.sets, work.config, run, work.tasks) or (isinstance(ref.source, HubSource) and not listing):
            continue
        try:
            folder = hub.fetch_small(listing) if listing else Path(str(ref.source))
            architecture, _ = read_architecture(folder, ref, work.config, hub)
            layers = wanted_layers(work.config.layers, architecture.depth, ref)
        except InputError:
            continue
        check_room(
            ref.name, architecture.truncated(architecture.depth if work.tasks else max(layers) + 1), work, allowed
        )


def _traced(
    ref: CheckpointRef, sets: Sequence[Statements], config: SweepConfig, run: RunDirectory, tasks: Sequence[Task]
) -> bool:
    try:
        return is_traced(ref, sets, config, run, tasks)
    except InputError:  # another checkpoint's table: it fails by name
        return False


def _about(statements: Statements) -> dict[str, Any]:
    """What a report says of a set."""
    return {
        "source": statements.source,
        "dimension": statements.dimension,
        "rows": len(statements),
        "label_one_rows": int(statements.labels.sum()),
        "label_one": statements.info.label_one if statements.info else None,
    }
