"""The tracing command: what it may use, the pipeline over its checkpoints, and what it ends with."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data import linter
from jtrace.data.statements import Statements
from jtrace.dynamics.write import write_course
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.hub.client import Hub, UnreachableError
from jtrace.hub.files import Listing, bytes_text
from jtrace.models.sharding import Layout
from jtrace.probing.memory import check_memory, statistics_memory
from jtrace.probing.paper import check_paper_rows
from jtrace.probing.sound import sound_set
from jtrace.probing.vectors import MASS_MEAN
from jtrace.report.figures.draw import draw_all
from jtrace.report.summary import as_text, best_layers, comparison_text
from jtrace.runs.record import open_run
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.distributed import wait_for_all
from jtrace.runtime.progress import Bar
from jtrace.sweep.checkpoint import SweepConfig, check_checkpoint
from jtrace.sweep.pipeline import Pipeline
from jtrace.sweep.work import Limits, Work, check_room, untraced

LOOKS_AT_ONCE = 8


def trace_into(
    out: Path,
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    hub: Hub | None = None,
    tasks: Sequence[Task] = (),
    limits: Limits | None = None,
    layout: Layout | None = None,
    one_mesh: bool = False,
) -> int:
    """A whole tracing command: open the run, trace what is missing, draw the figures, print the summary.

    Args:
        hub: where checkpoints that are not local folders come from; None is the default hub and cache.
        tasks: that each checkpoint is asked, without steering, once it is traced.
        layout: a mesh; None for one device.
        one_mesh: whether it spans all processes.

    Returns:
        The exit status: 0 if every checkpoint is traced, 1 otherwise.

    Raises:
        InputError: nothing could be started, or the sweep was given up.
    """
    check_sets(sets, config)
    first, hub, limits = jax.process_index() == 0, hub or Hub(), limits or Limits()
    run, data = RunDirectory(out), {s.name: s.fingerprint for s in sets}
    work = Work(refs, sets, config, tasks, layout=layout, one_mesh=one_mesh)
    with ExitStack() as hold:
        odd = {s.name: linter.lint(s) for s in sets} if first else {}
        if first:
            about = {s.name: _about(s, odd[s.name]) for s in sets}
            open_run(out, config.record(), data, [ref.name for ref in refs], about, hold)
        wait_for_all("the run directory")
        left = untraced(work, run)
        work = dataclasses.replace(work, listings=_listings(left, hub))
        check_disk(work.listings, limits, hub)
        _check_models(left, work, limits, hub)
        if first:
            for name, findings in odd.items():
                print(linter.as_text(name, findings), file=sys.stderr)
        failures = sweep(work, limits, run, hub)
        wait_for_all("the last checkpoint")
    if not first:
        return 1 if failures else 0
    _conclude(run, config)
    return _status(work, run, failures)


def _status(work: Work, run: RunDirectory, failures: Mapping[str, str]) -> int:
    """0 if every checkpoint is traced, by whichever process; says how many are not."""
    left, on_record = untraced(work, run), run.failures()
    failed = [ref for ref in left if ref.name in failures or ref.name in on_record]
    if failed:
        print(f"{len(failed)} of {len(work.refs)} checkpoints failed, see {run.path}/failures.jsonl", file=sys.stderr)
    if len(left) > len(failed):
        print(
            f"{len(left) - len(failed)} of {len(work.refs)} checkpoints were left to another command; this one goes on "
            "with what is missing",
            file=sys.stderr,
        )
    return 1 if left or failures else 0


def sweep(work: Work, limits: Limits, run: RunDirectory, hub: Hub, *, quiet: bool = False) -> dict[str, str]:
    """Trace every checkpoint that the run directory does not hold yet.

    Returns:
        The reason for each checkpoint that this process could not trace, by name; empty if there is none.

    Raises:
        InputError: the sweep was given up.
    """
    pipeline = Pipeline(work, limits, run, hub, quiet)
    pipeline.go()
    return pipeline.failures


def _conclude(run: RunDirectory, config: SweepConfig) -> None:
    """Tables, vectors and figures of all that has been traced."""
    metrics = run.read_metrics()
    if not len(metrics):
        return
    for protocol in config.protocols:
        print(f"\nprotocol {protocol}, at the layer of the highest probe accuracy at the last checkpoint:\n")
        print(as_text(best_layers(metrics, protocol)))
    if len(config.protocols) > 1:
        print(f"\nside by side, at the last checkpoint:\n\n{comparison_text(metrics)}")
    vectors = [run.path / "vectors" / ("" if kind == MASS_MEAN else kind) for kind in config.vector_kinds]
    print(f"\ntables   {run.path}/metrics/*.parquet")
    print("vectors  " + "\n         ".join(f"{folder}/*.safetensors" for folder in vectors))
    write_course(run, metrics)
    if (run.path / "dynamics").is_dir():
        print(f"course   {run.path}/dynamics/*.parquet")
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
        label = "sizes" if remote > 1 else None  # a single one needs no bar
        return list(Bar(pool.map(look, refs), label, total=len(refs), unit=" checkpoints"))


def _listings(left: Sequence[CheckpointRef], hub: Hub) -> dict[CheckpointRef, Listing]:
    """What the hub lists for each checkpoint that is to be traced; those that it does not list will fail by name."""
    remote = [ref for ref in left if isinstance(ref.source, HubSource)]
    # A single one is looked at when its turn comes.
    found = look_at_all(remote, hub) if len(remote) > 1 else []
    return {ref: listing for ref, listing in zip(remote, found, strict=False) if isinstance(listing, Listing)}


def check_disk(listings: Mapping[CheckpointRef, Listing], limits: Limits, hub: Hub) -> None:
    """Whether the downloads fit, one after another.

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


def _check_models(left: Sequence[CheckpointRef], work: Work, limits: Limits, hub: Hub) -> None:
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
        check_memory(checked.ref.name, statistics_memory(checked.read, work.sets, work.config.dtype, work.layout))


def check_sets(sets: Sequence[Statements], config: SweepConfig) -> None:
    """Whether every set can be split as the protocols ask.

    Raises:
        InputError: too few rows or groups, or a label that a part of a split would lack.
    """
    for statements in sets:
        check_paper_rows(statements)
        if config.is_sound:
            sound_set(statements, config.sound)


def _about(statements: Statements, odd: Sequence[linter.Finding]) -> dict[str, Any]:
    """What a report says of a set."""
    return {
        "source": statements.source,
        "dimension": statements.dimension,
        "rows": len(statements),
        "label_one_rows": int(statements.labels.sum()),
        "label_one": statements.info.label_one if statements.info else None,
        "odd": [f"{finding.kind}: {finding.message}" for finding in odd],
    }
