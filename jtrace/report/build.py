"""The report of a run: one HTML page from its tables, its record and its log, finished or not.

The same files give the same bytes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from jtrace.errors import InputError
from jtrace.report.compare_protocols import SideBySide, side_by_side
from jtrace.report.figures.draw import Drawn, draw_all
from jtrace.report.findings import findings
from jtrace.report.glossary import ALWAYS, DYNAMICS, SOUND, TRANSFER
from jtrace.report.html import Section, definitions, figure, page
from jtrace.report.sections.dynamics import dynamics_sections
from jtrace.report.sections.head import report_head
from jtrace.report.sections.pipeline import pipeline_section
from jtrace.report.sections.probes import probe_sections
from jtrace.report.sections.protocols import protocols_section
from jtrace.report.sections.run import foot, oddities, problems, run_section, untraced, warnings
from jtrace.report.sections.steering import agreement_table, steering_section
from jtrace.report.standings import standings
from jtrace.runs.log import CheckpointTiming, read
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.atomic import atomic_write

TRIES = 5
DYNAMICS_TABLES = ("onsets", "change_points", "turns", "angles", "subspaces", "correlations", "transfer")


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run directory, and its figures anew; the run may go on meanwhile.

    Args:
        out: the file; `report.html` in the run directory if None.

    Returns:
        The file.

    Raises:
        InputError: the folder is no run, or one of its tables is damaged.
    """
    out = out or run / "report.html"
    html = _page_of_now(RunDirectory(run))
    with atomic_write(out) as aside:
        aside.write_text(html, encoding="utf-8")
    return out


def _page_of_now(run: RunDirectory) -> str:
    """The page, made anew if a table vanished or was replaced between being listed and being read."""
    for _ in range(TRIES - 1):
        before = _tables(run.path)
        try:
            return _page(run)
        except (InputError, OSError):
            if _tables(run.path) == before:
                raise
    return _page(run)


def _tables(run: Path) -> set[tuple[Path, int]]:
    """The tables of a run; one that is written anew is another."""
    found = set()
    for folder in ("metrics", "projections", "dynamics", "steering"):
        for file in (run / folder).glob("*.parquet"):
            with suppress(FileNotFoundError):
                found.add((file, file.stat().st_mtime_ns))
    return found


def _page(directory: RunDirectory) -> str:
    record = directory.record()
    failures = directory.failures()
    metrics = directory.read_metrics()
    steering = directory.read_steering()
    dynamics = {name: rows for name in DYNAMICS_TABLES if (rows := directory.read_dynamics(name)) is not None}
    figures = _by_section(draw_all(directory, metrics))
    by_protocol = {str(protocol): rows for protocol, rows in metrics.groupby("protocol")}
    found = {protocol: findings(rows, dynamics.get("onsets")) for protocol, rows in by_protocol.items()}
    # The page leads with what can be believed.
    leading = found.get("sound") or [finding for several in found.values() for finding in several]
    compared = side_by_side(metrics, dynamics.get("turns"))
    missing = untraced(record["checkpoints"], metrics, failures)
    wary = [*directory.audit(), *directory.warnings(), *oddities(record), *warnings(leading)]

    course = list(dynamics_sections(dynamics, standings(metrics), figures))
    sections = [
        Section("run", "What was run", run_section(record, metrics, failures)),
        *_protocols(metrics, compared),
        *probe_sections(by_protocol, found, figures),
        *course,
        *_steered(by_protocol, steering, figures),
        *_pipeline(read(directory.log_path), figures),
        Section("problems", "Failures and warnings", problems(failures, missing, wary)),
        Section("terms", "How to read this", definitions(_terms(by_protocol, course))),
    ]
    title, head = report_head(record, metrics, steering, leading, failures, missing)
    return page(title, head, sections, foot(record))


def _by_section(figures: Sequence[Drawn]) -> defaultdict[str, str]:
    """Numbered through; empty for a section without figures."""
    sections: defaultdict[str, str] = defaultdict(str)
    for number, drawn in enumerate(figures, 1):
        sections[drawn.section] += figure(f"figure-{number}", drawn.path, drawn.title, drawn.alt, drawn.caption)
    return sections


def _protocols(metrics: pd.DataFrame, compared: Sequence[SideBySide]) -> Iterator[Section]:
    if compared:
        yield Section("protocols", "Paper and sound side by side", protocols_section(metrics, compared))


def _terms(by_protocol: Mapping[str, pd.DataFrame], course: Sequence[Section]) -> list[tuple[str, str]]:
    """Those that the page uses."""
    there = {section.id for section in course}
    return [
        *ALWAYS,
        *(SOUND if "sound" in by_protocol else ()),
        *(DYNAMICS if there & {"dynamics", "angles"} else ()),
        *(TRANSFER if "transfer" in there else ()),
    ]


def _steered(
    by_protocol: Mapping[str, pd.DataFrame], steering: pd.DataFrame, figures: Mapping[str, str]
) -> Iterator[Section]:
    steered = steering_section(steering, figures["comparison"], figures["steering"])
    if steered:
        yield Section("steering", "Steering", steered)
    correlated = agreement_table(by_protocol.values(), steering)
    if correlated:
        yield Section("agreement", "Probes and behaviour", figures["agreement"] + correlated)


def _pipeline(passages: Sequence[CheckpointTiming], figures: Mapping[str, str]) -> Iterator[Section]:
    if html := pipeline_section(passages, figures["pipeline"]):
        yield Section("pipeline", "The sweep itself", html)
