"""The report's section that puts the protocols side by side: tables with baselines and nulls, and where they differ."""

from collections.abc import Iterator, Sequence

import pandas as pd

from jtrace.report.compare_protocols import SideBySide
from jtrace.report.page import Block, Details, Paragraph, Table
from jtrace.report.summary import comparison_table, in_two

INTRODUCTION = (
    "Paper is the published procedure: the first 80 % of the rows train a probe and the rest test it, information has "
    "no null, nothing has an interval. Sound measures the same anew, with all of these. Each row is at its own "
    "protocol's best layer at the last checkpoint."
)
CAPTIONS = (
    "Probes under both protocols, with what needs no training",
    "Information under both protocols, with its null (the mean of permuted rows)",
)
DIFFER = (
    "Where paper and sound differ. Layers are those of paper's best probes where none else is named; luck is half the "
    "95 % interval of an accuracy on so many independent test rows"
)
AGREE = "Where paper and sound agree"


def protocol_blocks(metrics: pd.DataFrame, compared: Sequence[SideBySide]) -> Iterator[Block]:
    """Show what both protocols measured and where they differ; nothing of a run by one of them.

    Args:
        metrics: the run's tables as one.
        compared: as `jtrace.report.compare_protocols.side_by_side` returns them.
    """
    if not compared:
        return
    yield Paragraph(INTRODUCTION)
    comparison = comparison_table(metrics)
    if comparison["checkpoint"].nunique() == 1:
        comparison = comparison.drop(columns="checkpoint")
    for caption, rows in zip(CAPTIONS, in_two(comparison), strict=True):
        yield Table(caption, list(rows.columns), rows.astype(object).to_numpy().tolist())
    differ, agree = (_verdicts(caption, compared, agrees) for caption, agrees in ((DIFFER, False), (AGREE, True)))
    sets = len({(row[0], row[1]) for row in differ.rows})
    yield Paragraph(f"On {sets} of {len(compared)} sets the two differ in something.")
    if differ.rows:
        yield differ
    if agree.rows:
        yield Details(f"{AGREE} ({len(agree.rows)} rows)", [agree])


def _verdicts(caption: str, compared: Sequence[SideBySide], agree: bool) -> Table:
    rows = [
        [one.dataset, one.model or None, comparison.measure, comparison.verdict, comparison.paper, comparison.sound]
        for one in compared
        for comparison in one.comparisons
        if comparison.agrees == agree
    ]
    return Table(caption, ["set", "model", "measure", "verdict", "paper", "sound"], rows)
