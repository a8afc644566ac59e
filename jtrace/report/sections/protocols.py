"""The report's section that puts the protocols side by side: a table with baselines and nulls, and what it comes to."""

from collections.abc import Sequence
from html import escape

import pandas as pd

from jtrace.report.compare_protocols import SideBySide
from jtrace.report.html import items, paragraph, table
from jtrace.report.summary import comparison_table, in_two

INTRODUCTION = (
    "Paper is the published procedure: the first 80 % of the rows train a probe and the rest test it, information has "
    "no null, nothing has an interval. Sound measures the same anew, with all of these. Each row is at its own "
    "protocol's best layer at the last checkpoint."
)


def protocols_section(metrics: pd.DataFrame, compared: Sequence[SideBySide]) -> str:
    """HTML.

    Args:
        metrics: the run's tables as one.
        compared: as `jtrace.report.compare_protocols.side_by_side` returns them; not empty.
    """
    parts = [paragraph(INTRODUCTION)]
    captions = (
        "Probes under both protocols, with what needs no training",
        "Information under both protocols, with its null (the mean of permuted rows)",
    )
    comparison = comparison_table(metrics)
    if comparison["checkpoint"].nunique() == 1:
        comparison = comparison.drop(columns="checkpoint")
    for caption, rows in zip(captions, in_two(comparison), strict=True):
        parts.append(table(caption, list(rows.columns), rows.astype(object).to_numpy().tolist()))
    differing = sum(bool(one.disagreements) for one in compared)
    parts.append("<h3>Where they disagree</h3>\n")
    parts.append(paragraph(f"On {differing} of {len(compared)} sets the two differ in something."))
    several = len({one.model for one in compared}) > 1
    for one in compared:
        name = one.called + (f" ({one.model})" if several and one.model else "")
        parts.append(f"<h4>{escape(name)}</h4>\n")
        if one.disagreements:
            parts.append(items(one.disagreements))
        if one.agreement:
            parts.append(paragraph(one.agreement))
    return "".join(parts)
