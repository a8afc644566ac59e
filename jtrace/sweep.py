"""The pipeline over checkpoints: read, extract, trace, write; one failing checkpoint does not stop the others."""

import dataclasses
import functools
import gc
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jtrace import linter
from jtrace.baselines import text_baseline
from jtrace.checkpoints.hub import Hub, UnreachableError
from jtrace.checkpoints.listing import Listing
from jtrace.checkpoints.refs import CheckpointRef, HubSource
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.task import Task
from jtrace.figures import draw_all
from jtrace.results import RunDirectory, open_run
from jtrace.summary import as_text, best_layers
from jtrace.trace import check_paper_rows
from jtrace.tracing import Packer, SweepConfig, is_traced, trace_checkpoint
from jtrace.vectors import MASS_MEAN

LOOKS_AT_ONCE = 8


def trace_into(
    out: Path,
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    hub: Hub | None = None,
    tasks: Sequence[Task] = (),
) -> int:
    """A whole tracing command: open the run, trace what is missing, draw the figures, print the summary.

    Args:
        hub: where checkpoints that are not local folders come from; None is the default hub and cache.
        tasks: that each checkpoint is asked, without steering, once it is traced.

    Returns:
        The exit status: 0 if every checkpoint is traced, 1 otherwise.

    Raises:
        InputError: nothing could be started; nothing has been written then.
    """
    for statements in sets:
        check_paper_rows(statements)
    for statements in sets:
        print(linter.as_text(statements.name, linter.lint(statements)), file=sys.stderr)
    run = open_run(
        out,
        config.record(),
        {s.name: s.fingerprint for s in sets},
        [ref.name for ref in refs],
        {s.name: _about(s) for s in sets},
    )
    hub = hub or Hub()
    _check_space(refs, sets, config, run, hub, tasks)
    failures = sweep(refs, sets, config, run, hub, tasks)
    metrics = run.read_metrics()
    if len(metrics):
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
    if failures:
        print(f"{len(failures)} of {len(refs)} checkpoints failed, see {run.path}/failures.jsonl", file=sys.stderr)
    return 1 if failures else 0


def sweep(
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    run: RunDirectory,
    hub: Hub,
    tasks: Sequence[Task] = (),
    *,
    quiet: bool = False,
) -> dict[str, str]:
    """Trace every checkpoint that the run directory does not hold yet.

    Returns:
        The reason for each checkpoint of `refs` that could not be traced, by name; empty if all were.
    """
    packer = Packer(sets)
    baseline = functools.cache(text_baseline)
    failures: dict[str, str] = {}
    for at, ref in enumerate(refs, 1):
        label = f"[{at}/{len(refs)}] {ref.name}"
        try:
            if is_traced(ref, sets, config, run, tasks):
                _say(f"{label}: already traced", quiet)
                run.clear_failure(ref)
                continue
            bar = None if quiet else label
            timing, warnings = trace_checkpoint(ref, sets, config, packer, baseline, run, hub, tasks, progress=bar)
            run.clear_failure(ref)
            _say(f"{label}: {timing}", quiet)
            for warning in filter(None, (ref.warning, *warnings)):
                print(f"warning: {ref.name}: {warning}", file=sys.stderr)
        except Exception as error:  # whatever is wrong with one checkpoint, the others go on
            reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            failures[ref.name] = " ".join(reason.split())
            if isinstance(error, UnreachableError):  # one wait for an absent hub is enough
                hub = dataclasses.replace(hub, waits=())
            print(f"error: {label}: {failures[ref.name]}", file=sys.stderr)
            run.record_failure(ref, failures[ref.name])
        gc.collect()
    return failures


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


def _check_space(
    refs: Sequence[CheckpointRef],
    sets: Sequence[Statements],
    config: SweepConfig,
    run: RunDirectory,
    hub: Hub,
    tasks: Sequence[Task],
) -> None:
    """Refuse a sweep whose downloads the disk cannot hold, before the first of several starts."""
    remote = [ref for ref in refs if isinstance(ref.source, HubSource) and not is_traced(ref, sets, config, run, tasks)]
    if len(remote) > 1:
        hub.check_space([found for found in look_at_all(remote, hub) if isinstance(found, Listing)])


def _about(statements: Statements) -> dict[str, Any]:
    """What a report says of a set."""
    return {
        "source": statements.source,
        "dimension": statements.dimension,
        "rows": len(statements),
        "label_one_rows": int(statements.labels.sum()),
        "label_one": statements.info.label_one if statements.info else None,
    }


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        print(line, flush=True)
