"""The report's sections on probes and information, protocol by protocol."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from jtrace.dynamics.trajectory import evenly_chosen, with_checkpoints
from jtrace.report.findings import COURSES, PAIRED, Finding
from jtrace.report.format import measure, spread
from jtrace.report.page import Block, Details, Heading, Table
from jtrace.report.sections.run import count
from jtrace.report.summary import best_layers

MOST_ROWS = 16  # of one set's checkpoints in a table
MOST_OPEN = 12  # sets whose tables are shown at once


def probe_blocks(metrics: Mapping[str, pd.DataFrame], findings: Mapping[str, Sequence[Finding]]) -> Iterator[Block]:
    """Show each set's best probe at the ends of pre-training, and along it.

    Args:
        metrics: the run's tables, by protocol.
        findings: of each protocol.
    """
    for protocol, rows in metrics.items():
        paired = any(finding.paired for finding in findings[protocol])
        yield (_sound_table if paired else _probe_table)(findings[protocol], protocol)
        yield Heading("Over pre-training, at the best layer of the last checkpoint")
        yield from _best_tables(rows, protocol)


def information_blocks(findings: Mapping[str, Sequence[Finding]]) -> Iterator[Block]:
    """Show the course of information, protocol by protocol."""
    for protocol, of_protocol in findings.items():
        rows = [
            [one.dataset, one.model, one.layer, measure(metric), course.first, course.peak, course.peak_at, course.last]
            for one in of_protocol
            for metric in COURSES
            if (course := one.courses.get(metric))
        ]
        if rows:
            yield Table(
                f"Information over pre-training at the layer of the best probe, protocol {protocol}",
                ["set", "model", "layer", "measure", "first", "highest", "highest at", "last"],
                rows,
            )


def _probe_table(findings: Sequence[Finding], protocol: str) -> Table:
    rows = [
        [*_start(one), one.text, one.chance, one.gain, one.margin, one.n, one.verdict] for one in findings
    ]  # fmt: skip
    return Table(
        f"Probe accuracy at the first and last checkpoint, protocol {protocol}; ± is half a 95 % interval of the gain "
        "over the best of text only, chance and one half",
        ["set", "model", "layer", "first", "last", "text only", "chance", "gain", "±", "test rows", "verdict"],
        rows,
    )


def _sound_table(findings: Sequence[Finding], protocol: str) -> Table:
    rows = []
    for one in findings:
        paired = [one.paired.get(metric) for metric in PAIRED]
        gains = [value for gain in paired for value in ((gain.value, spread(gain, 3)) if gain else (None, None))]
        chosen = one.chosen[1].value if one.chosen else None
        error, _, p = one.calibration or (None, None, None)
        rows.append([*_start(one), spread(one.accuracy, 3), one.text, one.chance, *gains, chosen, error, p, one.groups,
                     one.n, one.verdict])  # fmt: skip
    return Table(
        f"Probe accuracy at the first and last checkpoint, protocol {protocol}, with 95 % intervals. Differences are "
        "taken on the same bootstrap draws: from the best of text only, chance and one half, and from the better of "
        "random initialisation and one half. ECE p is how often a calibrated probe has so large an error",
        ["set", "model", "layer", "first", "last", "95 %", "text only", "chance",
         *(column for name in PAIRED.values() for column in (f"above {name}", "95 %")),
         "chosen layer", "ECE", "ECE p", "effective groups", "rows", "verdict"],
        rows,
    )  # fmt: skip


def _start(finding: Finding) -> list[object]:
    first = finding.first if finding.first_at else None
    return [finding.dataset, finding.model, finding.layer, first, finding.last]


def _best_tables(rows: pd.DataFrame, protocol: str) -> Iterator[Block]:
    """One table per set: its best layer at each checkpoint, or at evenly chosen ones."""
    best = best_layers(rows, protocol)
    columns = [column for column in best.columns if column not in ("dataset", "checkpoint", "best layer")]
    each = with_checkpoints(rows).drop_duplicates("checkpoint").to_dict("records")
    places = {str(row["checkpoint"]): (count(row["step"]), count(row["tokens"])) for row in each}
    is_open = best["dataset"].nunique() <= MOST_OPEN
    for dataset, of_set in best.groupby("dataset", sort=False):
        lines = []
        for row in of_set.to_dict("records"):
            name = str(row["checkpoint"])
            numbers = [float(row[column]) for column in columns]
            lines.append([name, *places[name], int(row["best layer"]), *numbers])
        chosen = evenly_chosen(lines, MOST_ROWS)
        some = f"; {len(chosen)} of {len(lines)} checkpoints, evenly chosen" if len(chosen) < len(lines) else ""
        caption = f"At the layer of the highest probe accuracy at the last checkpoint, protocol {protocol}{some}"
        yield Details(str(dataset), [Table(caption, ["checkpoint", "step", "tokens", "layer", *columns], chosen)],
                      is_open)  # fmt: skip
