"""The report's sections on RUN/dynamics: the course of pre-training, how vectors turn, and what probes transfer to."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from jtrace.dynamics.tables import CHOSEN
from jtrace.dynamics.trajectory import evenly_chosen
from jtrace.report.figures.style import at_text, brief_names, span_text
from jtrace.report.findings import line_text
from jtrace.report.format import measure, with_spread
from jtrace.report.html import Section, table
from jtrace.report.standings import SetAtLastCheckpoint
from jtrace.steering.results import Estimate

MOST_OPEN = 20  # rows of a table that is shown at once
MOST_COLUMNS = 4  # checkpoints beside each other


def dynamics_sections(
    tables: Mapping[str, pd.DataFrame], standings: Sequence[SetAtLastCheckpoint], figures: Mapping[str, str]
) -> Iterator[Section]:
    """Each where there is something to show.

    Args:
        tables: of RUN/dynamics, by name, those that are there.
        standings: of all protocols and models.
        figures: HTML by section.
    """
    along = [standing for standing in standings if standing.curve is not None]
    course = [_onsets, _turns, _change_points, _correlations]
    html = figures["dynamics"] + "".join(part(tables, along) for part in course)
    if html:
        yield Section("dynamics", "The course of pre-training", html)
    # Vectors belong to no protocol: each set's layer is told by the protocol that dynamics took it from.
    html = figures["angles"] + "".join(part(tables, along) for part in (_cosines, _between_sets, _subspaces))
    if html:
        yield Section("angles", "How vectors turn", html)
    html = figures["transfer"] + _transfer_between_sets(standings) + _transfer_between_checkpoints(tables, along)
    if html:
        yield Section("transfer", "Transfer", html)


def _onsets(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    rows = []
    for standing in along:
        found = standing.of_set(tables["onsets"]) if "onsets" in tables else pd.DataFrame(columns=["metric"])
        for row in found[found["metric"] == CHOSEN].to_dict("records"):
            place = _place(standing, row) if row["checkpoint"] else ["not clear", None]
            rows.append([standing.dataset, standing.model, *place, f"above {line_text(row['line'])}"])
    return _table(
        "Onsets: from where on the probe stays above its line, by the paired difference, layers chosen on rows apart",
        ["set", "model", "from", "95 %", "line"],
        rows,
    )


def _turns(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    rows = [
        [*_named(standing, row), *_place(standing, row), row["rise"], row["fall"], row["p"]]
        for standing, row in _rows(tables, "turns", along)
    ]
    return _table(
        "Turns of I(X;T) at the layer of the best probe: the peak of the best rise and fall, clear where p ≤ 0.05",
        ["set", "model", "protocol", "layer", "measure", "peak", "95 %", "rise", "fall", "p"],
        rows,
    )


def _change_points(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    rows = [
        [*_named(standing, row), *_place(standing, row), row["slope_before"], row["slope_after"]]
        for standing, row in _rows(tables, "change_points", along)
    ]
    return _table(
        "Change points at the layer of the best probe, with the slopes per checkpoint before and after",
        ["set", "model", "protocol", "layer", "measure", "at", "95 %", "slope before", "slope after"],
        rows,
    )


def _correlations(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    rows = []
    for standing, row in _rows(tables, "correlations", along):
        kinds = [
            with_spread(Estimate(row[kind], row[f"{kind}_low"], row[f"{kind}_high"]))
            for kind in ("pearson", "spearman", "changes")
        ]
        x, y = measure(row["x"]), measure(row["y"])
        rows.append([standing.dataset, standing.model, standing.protocol, standing.layer, x, y, row["n"], *kinds])
    return _table(
        "Correlations over checkpoints at the layer of the best probe, with 95 % intervals where a trend allows any",
        ["set", "model", "protocol", "layer", "of", "and", "checkpoints", "Pearson", "Spearman", "of changes"],
        rows,
    )


def _cosines(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    """Of some checkpoints with the last one; a table per model."""
    parts = []
    for model, shown in _by_model(along).items():
        found = _of_kind(tables, "checkpoints", model)
        curve = shown[0].curve
        if found.empty or curve is None:
            continue
        called = dict(zip(curve.checkpoints, brief_names(curve), strict=True))
        last = [name for name in curve.checkpoints if (found["other_checkpoint"] == name).any()][-1:]
        to_last = found[found["other_checkpoint"].isin(last)]
        columns = evenly_chosen(
            [name for name in curve.checkpoints if (to_last["checkpoint"] == name).any()], MOST_COLUMNS
        )
        rows = []
        for dataset, of_set in to_last.groupby("dataset", sort=False):
            cosines = of_set.set_index("checkpoint")["cosine"]
            rows.append([dataset, of_set["layer"].iloc[0], *(cosines.get(name) for name in columns)])
        caption = f"Cosine of each checkpoint's vector with that of the last one{_of(model, along)}"
        parts.append(_table(caption, ["set", "layer", *(called[name] for name in columns)], rows))
    return "".join(parts)


def _between_sets(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    parts = []
    for model, shown in _by_model(along).items():
        found, curve = _of_kind(tables, "sets", model), shown[0].curve
        last = [name for name in curve.checkpoints if (found["checkpoint"] == name).any()][-1:] if curve else []
        rows = found[found["checkpoint"].isin(last)][["dataset", "other_dataset", "layer", "cosine"]]
        caption = f"Cosine between the vectors of two sets at the last checkpoint{_of(model, along)}"
        parts.append(_table(caption, ["set", "other set", "layer", "cosine"], rows.astype(object).to_numpy().tolist()))
    return "".join(parts)


def _subspaces(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    parts = []
    for model, shown in _by_model(along).items():
        if "subspaces" not in tables or (curve := shown[0].curve) is None:
            continue
        found = tables["subspaces"]
        found = found[found["model"] == model]
        called = dict(zip(curve.checkpoints, brief_names(curve), strict=True))
        names = [name for name in curve.checkpoints if (found["checkpoint"] == name).any()]
        rows = []
        for name in evenly_chosen(names, MOST_COLUMNS):
            degrees = found.loc[found["checkpoint"] == name, "degrees"]
            rows.append([called[name], float(degrees.min()), float(degrees.max())])
        caption = f"Principal angles between all sets' vectors at a checkpoint and at the last one{_of(model, along)}"
        parts.append(_table(caption, ["checkpoint", "smallest, degrees", "largest, degrees"], rows))
    return "".join(parts)


def _transfer_between_sets(standings: Sequence[SetAtLastCheckpoint]) -> str:
    """AUROC with its interval; a table per model."""
    parts = []
    sound = [standing for standing in standings if standing.protocol == "sound"]
    for model, shown in _by_model(sound).items():
        rows = []
        for probe in shown:
            cells = []
            for statements in shown:
                metric = "probe_auroc" if statements is probe else f"transfer_auroc:{probe.dataset}"
                found = statements.estimate(metric, probe.layer)
                cells.append(None if found is None else with_spread(found))
            if sum(cell is not None for cell in cells) > 1:
                rows.append([probe.dataset, probe.layer, *cells])
        caption = f"AUROC of a set's probe on each set, at the last checkpoint{_of(model, sound)}"
        parts.append(_table(caption, ["probe of", "layer", *(f"on {one.dataset}" for one in shown)], rows))
    return "".join(parts)


def _transfer_between_checkpoints(tables: Mapping[str, pd.DataFrame], along: Sequence[SetAtLastCheckpoint]) -> str:
    """The first checkpoint's probe at the last one, and the other way round, beside the last one's own."""
    rows = []
    for standing in along:
        if "transfer" not in tables or standing.curve is None:
            continue
        found = standing.part_of(tables["transfer"])
        names = [name for name in standing.curve.checkpoints if (found["trained_at"] == name).any()]
        if len(names) < 2:
            continue
        auroc = found.set_index(["trained_at", "tested_at"])["auroc"]
        ends = [(names[-1], names[-1]), (names[0], names[-1]), (names[-1], names[0]), (names[0], names[0])]
        rows.append([standing.dataset, standing.model, standing.layer, *(auroc.get(pair) for pair in ends)])
    return _table(
        "AUROC of a checkpoint's probe at the same and at another checkpoint, the first and the last that were kept",
        ["set", "model", "layer", "last at last", "first at last", "last at first", "first at first"],
        rows,
    )


def _rows(
    tables: Mapping[str, pd.DataFrame], name: str, along: Sequence[SetAtLastCheckpoint]
) -> Iterator[tuple[SetAtLastCheckpoint, dict[Any, Any]]]:
    """Of one table, those at each standing's layer."""
    if name in tables:
        for standing in along:
            for row in standing.part_of(tables[name]).to_dict("records"):
                yield standing, row


def _named(standing: SetAtLastCheckpoint, row: Mapping[Any, Any]) -> list[object]:
    name = measure(str(row["metric"]))
    return [standing.dataset, standing.model, standing.protocol, standing.layer, name]


def _place(standing: SetAtLastCheckpoint, row: Mapping[Any, Any]) -> list[object]:
    curve = standing.curve
    assert curve is not None  # rows are of standings on a curve
    return [at_text(curve, row["at"]), span_text(curve, row["ci_low"], row["ci_high"])]


def _of_kind(tables: Mapping[str, pd.DataFrame], kind: str, model: str) -> pd.DataFrame:
    columns = ["dataset", "other_dataset", "checkpoint", "other_checkpoint", "layer", "cosine"]
    if "angles" not in tables:
        return pd.DataFrame(columns=columns)
    found = tables["angles"]
    return found[(found["kind"] == kind) & (found["model"] == model)]


def _by_model(standings: Sequence[SetAtLastCheckpoint]) -> dict[str, list[SetAtLastCheckpoint]]:
    models: dict[str, list[SetAtLastCheckpoint]] = {}
    for standing in standings:
        models.setdefault(standing.model, []).append(standing)
    return models


def _of(model: str, standings: Sequence[SetAtLastCheckpoint]) -> str:
    return f", {model}" if len({standing.model for standing in standings}) > 1 else ""


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Nothing without rows; folded where there are many."""
    if not rows:
        return ""
    body = table(caption, columns, rows)
    if len(rows) <= MOST_OPEN:
        return body
    brief = caption.partition(",")[0].partition(":")[0]
    return f"<details><summary>{escape(brief)} ({len(rows)} rows)</summary>{body}</details>\n"
