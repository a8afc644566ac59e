"""The report's sections on probes and information, protocol by protocol."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import pandas as pd

from jtrace.dynamics.trajectory import evenly_chosen, with_checkpoints
from jtrace.report.findings import COURSES, PAIRED, Finding
from jtrace.report.format import measure, spread
from jtrace.report.html import Section, table
from jtrace.report.sections.run import count
from jtrace.report.summary import best_layers

MOST_ROWS = 16  # of one set's checkpoints in a table


def probe_sections(
    by_protocol: Mapping[str, pd.DataFrame], found: Mapping[str, Sequence[Finding]], figures: Mapping[str, str]
) -> Iterator[Section]:
    """Probes, information and activations.

    Args:
        by_protocol: the metrics tables.
        found: findings of each protocol.
        figures: HTML by section.
    """
    if not by_protocol:
        return
    probes, information = [], []
    for protocol, rows in by_protocol.items():
        table_of = _sound_table if any(finding.paired for finding in found[protocol]) else _probe_table
        probes.append(table_of(found[protocol], protocol))
        probes.append(_best_tables(rows, protocol))
        information.append(_information_table(found[protocol], protocol))
    yield Section("probes", "Probe accuracy", figures["probes"] + "".join(probes))
    yield Section("information", "Information", figures["information"] + "".join(information))
    if figures["projections"]:
        yield Section("projections", "Activations", figures["projections"])


def _probe_table(found: Sequence[Finding], protocol: str) -> str:
    rows = [
        [f.dataset, f.model, f.layer, f.first if f.first_at else None, f.last, f.text, f.chance, f.gain, f.margin, f.n]
        for f in found
    ]
    return table(
        f"Probe accuracy at the first and last checkpoint, protocol {protocol}; ± is half a 95 % interval of the gain "
        "over the best of text only, chance and one half",
        ["set", "model", "layer", "first", "last", "text only", "chance", "gain", "±", "test rows"],
        rows,
    )


def _sound_table(found: Sequence[Finding], protocol: str) -> str:
    rows = []
    for f in found:
        paired = [f.paired.get(metric) for metric in PAIRED]
        chosen = f.chosen[1].value if f.chosen else None
        start = [f.dataset, f.model, f.layer, f.first if f.first_at else None, f.last, spread(f.accuracy, 3)]
        gains = [value for one in paired for value in ((one.value, spread(one, 3)) if one else (None, None))]
        error, _, p = f.calibration or (None, None, None)
        rows.append([*start, f.text, f.chance, *gains, chosen, error, p, f.groups, f.n])
    return table(
        f"Probe accuracy at the first and last checkpoint, protocol {protocol}, with 95 % intervals. Differences are "
        "taken on the same bootstrap draws: from the best of text only, chance and one half, and from the better of "
        "random initialisation and one half. ECE p is how often a calibrated probe has so large an error",
        ["set", "model", "layer", "first", "last", "95 %", "text only", "chance",
         *(column for name in PAIRED.values() for column in (f"above {name}", "95 %")),
         "chosen layer", "ECE", "ECE p", "effective groups", "rows"],
        rows,
    )  # fmt: skip


def _best_tables(rows: pd.DataFrame, protocol: str) -> str:
    """One table per set: its best layer at each checkpoint, or at evenly chosen ones."""
    best = best_layers(rows, protocol)
    columns = [column for column in best.columns if column not in ("dataset", "checkpoint", "best layer")]
    ordered = with_checkpoints(rows)
    each = ordered.drop_duplicates("checkpoint").to_dict("records")
    places = {str(row["checkpoint"]): (count(row["step"]), count(row["tokens"])) for row in each}
    parts = []
    for dataset, of_set in best.groupby("dataset", sort=False):
        lines = []
        for row in of_set.to_dict("records"):
            name = str(row["checkpoint"])
            numbers = [float(row[column]) for column in columns]
            lines.append([name, *places[name], int(row["best layer"]), *numbers])
        chosen = evenly_chosen(lines, MOST_ROWS)
        some = f"; {len(chosen)} of {len(lines)} checkpoints, evenly chosen" if len(chosen) < len(lines) else ""
        parts.append(
            f"<details open><summary>{escape(str(dataset))}</summary>"
            + table(
                f"At the layer of the highest probe accuracy at the last checkpoint, protocol {protocol}{some}",
                ["checkpoint", "step", "tokens", "layer", *columns],
                chosen,
            )
            + "</details>\n"
        )
    return "<h3>Over pre-training, at the best layer of the last checkpoint</h3>\n" + "".join(parts)


def _information_table(found: Sequence[Finding], protocol: str) -> str:
    rows = [
        [f.dataset, f.model, f.layer, measure(metric), course.first, course.peak, course.peak_at, course.last]
        for f in found
        for metric in COURSES
        if (course := f.courses.get(metric))
    ]
    if not rows:
        return ""
    return table(
        f"Information over pre-training at the layer of the best probe, protocol {protocol}",
        ["set", "model", "layer", "measure", "first", "highest", "highest at", "last"],
        rows,
    )
