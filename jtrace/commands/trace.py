"""The tracing command: open the run, trace what is missing, and end with tables, figures and a status."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from jtrace.checkpoints.refs import CheckpointRef
from jtrace.data import linter
from jtrace.data.statements import Statements
from jtrace.dynamics.write import write_course
from jtrace.evaluation.task import Task
from jtrace.hub.client import Hub
from jtrace.models.sharding import Layout
from jtrace.probing.vectors import MASS_MEAN
from jtrace.report.figures.draw import draw_all
from jtrace.report.summary import as_text, best_layers, comparison_text
from jtrace.runs.record import open_run
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.distributed import wait_for_all
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.run import check_disk, check_models, check_sets, list_remote, sweep
from jtrace.sweep.work import Limits, Work, untraced


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
        work = dataclasses.replace(work, listings=list_remote(left, hub))
        check_disk(work.listings, limits, hub)
        check_models(left, work, limits, hub)
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


def _about(statements: Statements, odd: Sequence[linter.LintWarning]) -> dict[str, Any]:
    """What a report says of a set."""
    return {
        "source": statements.source,
        "dimension": statements.dimension,
        "rows": len(statements),
        "label_one_rows": int(statements.labels.sum()),
        "label_one": statements.info.label_one if statements.info else None,
        "odd": [f"{finding.kind}: {finding.message}" for finding in odd],
    }
