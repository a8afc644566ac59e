"""The report's sections on RUN/dynamics: the course of pre-training, how vectors turn, and what probes transfer to."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from jtrace.dynamics.tables import CHOSEN
from jtrace.dynamics.trajectory import evenly_chosen
from jtrace.report.figures.style import at_text, brief_names, span_text
from jtrace.report.findings import line_text
from jtrace.report.format import measure, with_spread
from jtrace.report.page import Block, Table, folded
from jtrace.report.standings import SetAtLastCheckpoint
from jtrace.steering.results import Estimate

MOST_OPEN = 20  # rows of a table that is shown at once
MOST_COLUMNS = 4  # checkpoints beside each other

Tables = Mapping[str, pd.DataFrame]
Standings = Sequence[SetAtLastCheckpoint]


def course_blocks(tables: Tables, standings: Standings) -> Iterator[Block]:
    """Show onsets, turns, change points and correlations, those that there are.

    Args:
        tables: of RUN/dynamics, by name.
        standings: of all protocols and models.
    """
    along = _along(standings)
    for table in (_onsets(tables, along), _turns(tables, along), _change_points(tables, along),
                  _correlations(tables, along)):  # fmt: skip
        yield from _shown(table)


def angle_blocks(tables: Tables, standings: Standings) -> Iterator[Block]:
    """Show how the vectors of checkpoints and of sets lie to each other; arguments as of `course_blocks`.

    Vectors belong to no protocol: each set's layer is told by the protocol that dynamics took it from.
    """
    models = _by_model(_along(standings))
    for make in (_cosines, _between_sets, _subspaces):
        for model, of_model in models.items():
            yield from _shown(make(tables, of_model, f", {model}" if len(models) > 1 else ""))


def transfer_blocks(tables: Tables, standings: Standings, sets: Collection[str] | None = None) -> Iterator[Block]:
    """Show what probes reach on other sets and at other checkpoints; arguments as of `course_blocks`.

    Args:
        sets: those that stand beside each other; None for all.
    """
    models = _by_model([standing for standing in standings if standing.protocol == "sound"])
    for model, of_model in models.items():
        shown = [standing for standing in of_model if sets is None or standing.dataset in sets]
        suffix = f", {model}" if len(models) > 1 else ""
        if len(shown) < len(of_model):
            suffix += f"; {len(shown)} of {len(of_model)} sets, the others in RUN/metrics as transfer_auroc:SET"
        yield from _shown(_transfer_between_sets(shown, suffix))
    yield from _shown(_transfer_between_checkpoints(tables, _along(standings)))


def _onsets(tables: Tables, along: Standings) -> Table:
    rows = []
    for standing in along if "onsets" in tables else ():
        onsets = standing.of_set(tables["onsets"])
        for row in onsets[onsets["metric"] == CHOSEN].to_dict("records"):
            place = _place(standing, row) if row["checkpoint"] else ["not clear", None]
            rows.append([standing.dataset, standing.model, *place, f"above {line_text(row['line'])}"])
    return Table(
        "Onsets: from where on the probe stays above its line, by the paired difference, layers chosen on rows apart",
        ["set", "model", "from", "95 %", "line"],
        rows,
    )


def _turns(tables: Tables, along: Standings) -> Table:
    return Table(
        "Turns of I(X;T) at the layer of the best probe: the peak of the best rise and fall, clear where p ≤ 0.05",
        ["set", "model", "protocol", "layer", "measure", "peak", "95 %", "rise", "fall", "p"],
        [
            [*_named(standing, row), *_place(standing, row), row["rise"], row["fall"], row["p"]]
            for standing, row in _rows(tables, "turns", along)
        ],
    )


def _change_points(tables: Tables, along: Standings) -> Table:
    return Table(
        "Change points at the layer of the best probe, with the slopes per checkpoint before and after",
        ["set", "model", "protocol", "layer", "measure", "at", "95 %", "slope before", "slope after"],
        [
            [*_named(standing, row), *_place(standing, row), row["slope_before"], row["slope_after"]]
            for standing, row in _rows(tables, "change_points", along)
        ],
    )


def _correlations(tables: Tables, along: Standings) -> Table:
    rows = []
    for standing, row in _rows(tables, "correlations", along):
        kinds = [
            with_spread(Estimate(row[kind], row[f"{kind}_low"], row[f"{kind}_high"]))
            for kind in ("pearson", "spearman", "changes")
        ]
        x, y = measure(row["x"]), measure(row["y"])
        rows.append([standing.dataset, standing.model, standing.protocol, standing.layer, x, y, row["n"], *kinds])
    return Table(
        "Correlations over checkpoints at the layer of the best probe, with 95 % intervals where a trend allows any",
        ["set", "model", "protocol", "layer", "of", "and", "checkpoints", "Pearson", "Spearman", "of changes"],
        rows,
    )


def _cosines(tables: Tables, of_model: Standings, suffix: str) -> Table | None:
    """Table of the cosines of some checkpoints with the last one."""
    cosines, curve = _of_kind(tables, "checkpoints", of_model[0].model), of_model[0].curve
    if cosines.empty or curve is None:
        return None
    brief = dict(zip(curve.checkpoints, brief_names(curve), strict=True))
    last = [name for name in curve.checkpoints if (cosines["other_checkpoint"] == name).any()][-1:]
    to_last = cosines[cosines["other_checkpoint"].isin(last)]
    names = evenly_chosen([name for name in curve.checkpoints if (to_last["checkpoint"] == name).any()], MOST_COLUMNS)
    rows: list[list[object]] = []
    for dataset, of_set in to_last.groupby("dataset", sort=False):
        by_checkpoint = of_set.set_index("checkpoint")["cosine"]
        rows.append([dataset, of_set["layer"].iloc[0], *(by_checkpoint.get(name) for name in names)])
    caption = f"Cosine of each checkpoint's vector with that of the last one{suffix}"
    return Table(caption, ["set", "layer", *(brief[name] for name in names)], rows)


def _between_sets(tables: Tables, of_model: Standings, suffix: str) -> Table | None:
    cosines, curve = _of_kind(tables, "sets", of_model[0].model), of_model[0].curve
    last = [name for name in curve.checkpoints if (cosines["checkpoint"] == name).any()][-1:] if curve else []
    rows = cosines[cosines["checkpoint"].isin(last)][["dataset", "other_dataset", "layer", "cosine"]]
    caption = f"Cosine between the vectors of two sets at the last checkpoint{suffix}"
    return Table(caption, ["set", "other set", "layer", "cosine"], rows.astype(object).to_numpy().tolist())


def _subspaces(tables: Tables, of_model: Standings, suffix: str) -> Table | None:
    if "subspaces" not in tables or (curve := of_model[0].curve) is None:
        return None
    angles = tables["subspaces"]
    angles = angles[angles["model"] == of_model[0].model]
    brief = dict(zip(curve.checkpoints, brief_names(curve), strict=True))
    names = [name for name in curve.checkpoints if (angles["checkpoint"] == name).any()]
    rows = []
    for name in evenly_chosen(names, MOST_COLUMNS):
        degrees = angles.loc[angles["checkpoint"] == name, "degrees"]
        rows.append([brief[name], float(degrees.min()), float(degrees.max())])
    caption = f"Principal angles between all sets' vectors at a checkpoint and at the last one{suffix}"
    return Table(caption, ["checkpoint", "smallest, degrees", "largest, degrees"], rows)


def _transfer_between_sets(of_model: Standings, suffix: str) -> Table:
    """AUROC with its interval."""
    rows = []
    for probe in of_model:
        estimates = [
            statements.estimate(
                "probe_auroc" if statements is probe else f"transfer_auroc:{probe.dataset}", probe.layer
            )
            for statements in of_model
        ]
        if sum(estimate is not None for estimate in estimates) > 1:
            cells = [None if estimate is None else with_spread(estimate) for estimate in estimates]
            rows.append([probe.dataset, probe.layer, *cells])
    caption = f"AUROC of a set's probe on each set, at the last checkpoint{suffix}"
    return Table(caption, ["probe of", "layer", *(f"on {statements.dataset}" for statements in of_model)], rows)


def _transfer_between_checkpoints(tables: Tables, along: Standings) -> Table:
    """The first checkpoint's probe at the last one, and the other way round, beside the last one's own."""
    rows = []
    for standing in along if "transfer" in tables else ():
        transfer, curve = standing.part_of(tables["transfer"]), standing.curve
        names = [name for name in curve.checkpoints if (transfer["trained_at"] == name).any()] if curve else []
        if len(names) < 2:
            continue
        auroc = transfer.set_index(["trained_at", "tested_at"])["auroc"]
        ends = [(names[-1], names[-1]), (names[0], names[-1]), (names[-1], names[0]), (names[0], names[0])]
        rows.append([standing.dataset, standing.model, standing.layer, *(auroc.get(pair) for pair in ends)])
    return Table(
        "AUROC of a checkpoint's probe at the same and at another checkpoint, the first and the last that were kept",
        ["set", "model", "layer", "last at last", "first at last", "last at first", "first at first"],
        rows,
    )


def _along(standings: Standings) -> Standings:
    return [standing for standing in standings if standing.curve is not None]


def _by_model(standings: Standings) -> dict[str, Standings]:
    models = dict.fromkeys(standing.model for standing in standings)
    return {model: [standing for standing in standings if standing.model == model] for model in models}


def _rows(tables: Tables, name: str, along: Standings) -> Iterator[tuple[SetAtLastCheckpoint, dict[Any, Any]]]:
    """Of one table, those at each standing's layer."""
    for standing in along if name in tables else ():
        for row in standing.part_of(tables[name]).to_dict("records"):
            yield standing, row


def _named(standing: SetAtLastCheckpoint, row: Mapping[Any, Any]) -> list[object]:
    name = measure(str(row["metric"]))
    return [standing.dataset, standing.model, standing.protocol, standing.layer, name]


def _place(standing: SetAtLastCheckpoint, row: Mapping[Any, Any]) -> list[object]:
    curve = standing.curve
    assert curve is not None  # rows are of standings on a curve
    return [at_text(curve, row["at"]), span_text(curve, row["ci_low"], row["ci_high"])]


def _of_kind(tables: Tables, kind: str, model: str) -> pd.DataFrame:
    columns = ["dataset", "other_dataset", "checkpoint", "other_checkpoint", "layer", "cosine"]
    angles = tables.get("angles", pd.DataFrame(columns=[*columns, "kind", "model"]))
    return angles[(angles["kind"] == kind) & (angles["model"] == model)]


def _shown(table: Table | None) -> Iterator[Block]:
    """Nothing without rows; folded where there are many."""
    if table is not None and table.rows:
        yield folded(table, MOST_OPEN, table.caption.partition(",")[0].partition(":")[0])
