"""The head of a report: title, state, and the findings in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from jtrace.report.findings import COURSES, Finding, clear_of
from jtrace.report.format import listed, measure
from jtrace.report.page import Head
from jtrace.report.sections.run import commands

MOST_NAMES = 6  # of missing checkpoints at the top
MOST_SETS = 12  # that are named one by one at the top


def report_head(
    record: Mapping[str, Any],
    metrics: pd.DataFrame,
    steering: pd.DataFrame,
    findings: Sequence[Finding],
    failures: Mapping[str, Any],
    missing: Sequence[str],
) -> Head:
    """Lead with the findings, or say why there are none.

    Args:
        findings: of one protocol.
        missing: names of checkpoints that are still to come.
    """
    traced_models = [*(finding.model for finding in findings if finding.courses), *metrics["model"]]
    models = list(dict.fromkeys(traced_models or steering["target"]))
    subject = ", ".join(models[:3]) + (f" and {len(models) - 3} more models" if len(models) > 3 else "")
    traced, wanted = metrics[["model", "revision"]].drop_duplicates().shape[0], len(record["checkpoints"])
    state = f"{traced} of {wanted} checkpoints {'so far' if missing else 'traced'}"
    state += f", {len(failures)} failed" if failures else ""
    past = commands(record)
    day = f" · {past[-1]['time'][:10]}" if past and "time" in past[-1] else ""
    notice = ""
    if missing and traced:
        names = listed(missing) if len(missing) <= MOST_NAMES else f"{len(missing)} checkpoints"
        notice = f"Unfinished: {state}; not traced yet: {names}. What follows is of the traced ones."
    if findings:
        lead = _lead(findings)
    elif len(steering) and not wanted:
        lead = "No checkpoint was traced here; what steering did is below."
    elif missing or not wanted:
        lead = "No checkpoint has been traced yet, so there is nothing to show."
    else:
        lead = "No checkpoint could be traced; the reasons are below."
    return Head(
        title=f"Trustworthiness in {subject}" if models else "A run without results yet",
        state=f"jtrace report{day} · {state}",
        notice=notice,
        lead=lead,
        findings=list(_items(findings)),
    )


def _lead(findings: Sequence[Finding]) -> str:
    """How many sets a probe tells apart at the end, and which; of the first model."""
    first = findings[0]
    of_first = [finding for finding in findings if finding.model == first.model]
    clear = [finding.called for finding in of_first if finding.clear]
    others = [finding.called for finding in of_first if not finding.clear]
    lines = clear_of(of_first)
    where = f"At the last checkpoint ({first.last_at})" if first.first_at else f"In {first.last_at}"
    if not clear:
        return f"{where}, no probe is clearly more accurate than {lines}."
    tail = f", not on {_named(others)}" if others else ""
    one_or_all = "every set" if len(clear) > 1 else "the one set"
    sets = f"{len(clear)} of {len(of_first)} sets" if others else one_or_all
    return f"{where}, linear probes are clearly more accurate than {lines} on {sets}: {_named(clear)}{tail}."


def _named(sets: Sequence[str]) -> str:
    more = [f"{len(sets) - MOST_SETS} more"] if len(sets) > MOST_SETS else []
    return listed([*sets[:MOST_SETS], *more])


def _items(findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """An item per set of each curve; beside curves, one for all sets of a model that was traced once."""
    curves = [finding for finding in findings if finding.first_at]
    several = len({finding.model for finding in curves}) > 1
    shown = curves or findings
    for finding in shown[:MOST_SETS]:
        courses = [course.in_words(measure(metric)) + "." for metric in COURSES
                   if (course := finding.courses.get(metric))]  # fmt: skip
        model = f" ({finding.model})" if several else ""
        yield finding.called + model, " ".join([finding.in_words(), *courses])
    if len(shown) > MOST_SETS:
        yield f"{len(shown) - MOST_SETS} more", "each with its verdict in the table under Probe accuracy."
    for model in dict.fromkeys(finding.model for finding in findings if curves and not finding.first_at):
        of_model = [finding for finding in findings if finding.model == model]
        words = [f"{one.called} {one.last:.2f}" + (" (clearly above)" if one.clear else "") for one in of_model]
        yield f"{model}, traced beside it", f"{_named(words)}."
