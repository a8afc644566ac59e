"""A sweep into a run directory: opened, checked, traced, and the course of pre-training written."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data import linter
from jtrace.data.statements import Statements
from jtrace.dynamics.write import write_course
from jtrace.hub.client import Hub
from jtrace.runs.open_run import open_run
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.distributed import wait_for_all
from jtrace.sweep.run import check_disk, check_models, check_sets, list_remote, sweep
from jtrace.sweep.work import Limits, Work, untraced


@dataclass(frozen=True)
class Swept:
    """A finished sweep.

    Attributes:
        failures: why checkpoints failed in this process, by name.
        left: checkpoints that are not traced, by whichever process.
    """

    run: RunDirectory
    failures: Mapping[str, str]
    left: tuple[CheckpointRef, ...]


def sweep_into(
    out: Path,
    work: Work,
    limits: Limits,
    hub: Hub,
    say: Callable[[str], None] = lambda text: None,
    quiet: bool = False,
    lines: bool = True,
) -> Swept:
    """Trace what a run directory lacks, and write the tables of the course.

    Args:
        out: the run directory: new, empty, or an earlier run of the same settings.
        say: is told what is odd in the statements, before the first checkpoint.
        quiet, lines: see `jtrace.sweep.run.sweep`.

    Raises:
        InputError: nothing could be started, or the sweep was given up.
    """
    check_sets(work.sets, work.config)
    first, run = jax.process_index() == 0, RunDirectory(out)
    data = {statements.name: statements.fingerprint for statements in work.sets}
    with ExitStack() as hold:
        odd = {statements.name: linter.lint(statements) for statements in work.sets} if first else {}
        if first:
            about = {statements.name: _about(statements, odd[statements.name]) for statements in work.sets}
            open_run(out, work.config.record(), data, [ref.name for ref in work.refs], about, hold)
        wait_for_all("the run directory")
        left = untraced(work, run)
        work = dataclasses.replace(work, listings=list_remote(left, hub))
        check_disk(work.listings, limits, hub)
        check_models(left, work, limits, hub)
        for name, findings in odd.items():
            say(linter.as_text(name, findings))
        failures = sweep(work, limits, run, hub, quiet=quiet, lines=lines)
        wait_for_all("the last checkpoint")
    if first and len(metrics := run.read_metrics()):
        write_course(run, metrics)
    return Swept(run, failures, tuple(untraced(work, run)))


def _about(statements: Statements, odd: Sequence[linter.LintWarning]) -> dict[str, Any]:
    """Facts of a set for the report: source, rows, labels, oddities."""
    return {
        "source": statements.source,
        "dimension": statements.dimension,
        "rows": len(statements),
        "label_one_rows": int(statements.labels.sum()),
        "label_one": statements.info.label_one if statements.info else None,
        "odd": [f"{finding.kind}: {finding.message}" for finding in odd],
    }
