"""The report of a run: one HTML page from its tables, its record and its log, finished or not.

The same files give the same bytes.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from jtrace.errors import InputError
from jtrace.report.compare_protocols import side_by_side
from jtrace.report.figures.choice import chosen_sets
from jtrace.report.figures.draw import FIGURES, Drawn, draw_all
from jtrace.report.findings import finding
from jtrace.report.glossary import ALWAYS, DYNAMICS, SOUND, TRANSFER
from jtrace.report.interactive import page_data, page_tables, tables_of
from jtrace.report.page import Definitions, Figure, PageData, Section, embedded, render
from jtrace.report.sections.dynamics import angle_blocks, course_blocks, transfer_blocks
from jtrace.report.sections.head import report_head
from jtrace.report.sections.pipeline import pipeline_blocks
from jtrace.report.sections.probes import information_blocks, probe_blocks
from jtrace.report.sections.protocols import protocol_blocks
from jtrace.report.sections.run import foot, oddities, problem_blocks, run_blocks, untraced, warnings
from jtrace.report.sections.steering import agreement_blocks, steering_blocks
from jtrace.report.standings import standings
from jtrace.runs.log import read
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.atomic import atomic_write, sweep_up_beside

TRIES = 5
DYNAMICS_TABLES = ("onsets", "change_points", "turns", "angles", "subspaces", "correlations", "transfer")


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory, and its figures anew; the run may go on meanwhile.

    A run that cannot be written into keeps the figures that it has.

    Args:
        out: the file; `report.html` in the run directory if None.

    Returns:
        The file.

    Raises:
        InputError: the folder is no run, or one of its tables is damaged.
    """
    out = out or run / "report.html"
    with _figures_folder(run) as figures:
        html = _page_of_now(RunDirectory(run), figures)
    sweep_up_beside(out)
    with atomic_write(out) as aside:
        aside.write_text(html, encoding="utf-8")
    return out


@contextmanager
def _figures_folder(run: Path) -> Iterator[Path]:
    """The run's folder of figures, or one for as long as the page is made, which holds them."""
    if os.access(run, os.W_OK):
        yield run / FIGURES
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def _page_of_now(run: RunDirectory, figures: Path) -> str:
    """The page, made anew if a table vanished or was replaced between being listed and being read."""
    for _ in range(TRIES - 1):
        before = _tables(run.path)
        try:
            return _page(run, figures)
        except (InputError, OSError):
            if _tables(run.path) == before:
                raise
    return _page(run, figures)


def _tables(run: Path) -> set[tuple[Path, int]]:
    """The tables of a run; one that is written anew is another."""
    tables = set()
    for folder in ("metrics", "projections", "dynamics", "steering"):
        for file in (run / folder).glob("*.parquet"):
            with suppress(FileNotFoundError):
                tables.add((file, file.stat().st_mtime_ns))
    return tables


def _page(directory: RunDirectory, figures_folder: Path) -> str:
    record = directory.record()
    failures = directory.failures()
    metrics = directory.read_metrics()
    steering = directory.read_steering()
    dynamics = {name: rows for name in DYNAMICS_TABLES if (rows := directory.read_dynamics(name)) is not None}
    tables = page_tables(directory, record, metrics, steering, dynamics)
    figures = _by_section(draw_all(directory, metrics, folder=figures_folder), tables)
    by_protocol = {str(protocol): rows for protocol, rows in metrics.groupby("protocol")}
    stand = standings(metrics)
    findings = [finding(standing, dynamics.get("onsets")) for standing in stand]
    findings_by_protocol = {
        protocol: [one for standing, one in zip(stand, findings, strict=True) if standing.protocol == protocol]
        for protocol in by_protocol
    }
    # The page leads with what can be believed.
    leading = findings_by_protocol.get("sound") or findings
    missing = untraced(record["checkpoints"], metrics, failures)
    wary = [*directory.audit(), *directory.warnings(), *oddities(record), *warnings(leading)]
    compared = side_by_side(stand, findings, dynamics.get("turns"))

    contents = [
        ("run", "What was run", run_blocks(record, metrics, failures)),
        ("protocols", "Paper and sound side by side", protocol_blocks(metrics, compared)),
        ("probes", "Probe accuracy", [*figures["probes"], *probe_blocks(by_protocol, findings_by_protocol)]),
        ("information", "Information", [*figures["information"], *information_blocks(findings_by_protocol)]),
        ("projections", "Activations", figures["projections"]),
        ("dynamics", "The course of pre-training", [*figures["dynamics"], *course_blocks(dynamics, stand)]),
        ("angles", "How vectors turn", [*figures["angles"], *angle_blocks(dynamics, stand)]),
        ("transfer", "Transfer", [*figures["transfer"], *transfer_blocks(dynamics, stand, chosen_sets(metrics))]),
        ("steering", "Steering", steering_blocks(steering, figures["comparison"], figures["steering"])),
        ("agreement", "Probes and behaviour",
         [*figures["agreement"], *agreement_blocks(by_protocol.values(), steering)]),
        ("pipeline", "The sweep itself", pipeline_blocks(read(directory.log_path), figures["pipeline"])),
        ("problems", "Failures and warnings", problem_blocks(failures, missing, wary)),
    ]  # fmt: skip
    sections = [Section(id_, title, blocks) for id_, title, some in contents if (blocks := list(some))]
    terms = _terms({section.id for section in sections}, "sound" in by_protocol)
    sections.append(Section("terms", "How to read this", [Definitions(list(terms))]))
    data = PageData(page_data(tables), explores="metrics" in tables)
    return render(report_head(record, metrics, steering, leading, failures, missing), sections, foot(record), data)


def _by_section(figures: Sequence[Drawn], tables: Collection[str]) -> defaultdict[str, list[Figure]]:
    """Numbered through; empty for a section without figures."""
    sections: defaultdict[str, list[Figure]] = defaultdict(list)
    for number, drawn in enumerate(figures, 1):
        sections[drawn.section].append(embedded(number, drawn, tables_of(drawn.section, tables)))
    return sections


def _terms(sections: Collection[str], sound: bool) -> Iterator[tuple[str, str]]:
    """Those that the page uses."""
    yield from ALWAYS
    if sound:
        yield from SOUND
    if "dynamics" in sections or "angles" in sections:
        yield from DYNAMICS
    if "transfer" in sections:
        yield from TRANSFER
