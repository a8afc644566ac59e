"""The head of a report: title, state, and the findings in words."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from jtrace.report.findings import COURSES, Finding, clear_of
from jtrace.report.format import listed, measure
from jtrace.report.html import paragraph
from jtrace.report.sections.run import commands

MOST_NAMES = 6  # of missing checkpoints at the top


def report_head(
    record: Mapping[str, Any],
    metrics: pd.DataFrame,
    steering: pd.DataFrame,
    found: Sequence[Finding],
    failures: Mapping[str, Any],
    untraced: Sequence[str],
) -> tuple[str, str]:
    """Title and HTML.

    Args:
        found: of one protocol, what the page leads with.
        untraced: names of checkpoints that are still to come.
    """
    traced_models = [*(finding.model for finding in found if finding.courses), *metrics["model"]]
    models = list(dict.fromkeys(traced_models or steering["target"]))
    of = ", ".join(models[:3]) + (f" and {len(models) - 3} more models" if len(models) > 3 else "")
    title = f"Trustworthiness in {of}" if models else "A run without results yet"
    traced, wanted = metrics[["model", "revision"]].drop_duplicates().shape[0], len(record["checkpoints"])
    progress = "so far" if untraced else "traced"
    state = f"{traced} of {wanted} checkpoints {progress}" + (f", {len(failures)} failed" if failures else "")
    told = commands(record)
    day = f" · {told[-1]['time'][:10]}" if told and "time" in told[-1] else ""
    parts = [f'<p class="kicker">jtrace report{escape(day)} · {escape(state)}</p>', f"<h1>{escape(title)}</h1>"]
    if untraced and traced:
        names = listed(untraced) if len(untraced) <= MOST_NAMES else f"{len(untraced)} checkpoints"
        parts.append(paragraph(f"Unfinished: {state}; not traced yet: {names}. What follows is of the traced ones."))
    if found:
        parts.append(f'<p class="lead">{escape(_lead(found))}</p>')
        parts.append('<ul class="findings">' + "".join(_finding_items(found)) + "</ul>")
    elif len(steering) and not wanted:
        parts.append('<p class="lead">No checkpoint was traced here; what steering did is below.</p>')
    elif untraced or not wanted:
        parts.append('<p class="lead">No checkpoint has been traced yet, so there is nothing to show.</p>')
    else:
        parts.append('<p class="lead">No checkpoint could be traced; the reasons are below.</p>')
    return f"{title} · jtrace", "\n".join(parts)


def _lead(found: Sequence[Finding]) -> str:
    """How many sets a probe tells apart at the end, and which; of the first model."""
    of_first = [finding for finding in found if finding.model == found[0].model]
    clear = [finding.called for finding in of_first if finding.clear]
    others = [finding.called for finding in of_first if not finding.clear]
    best = clear_of(of_first)
    last = of_first[0]
    where = f"At the last checkpoint ({last.last_at})" if last.first_at else f"In {last.last_at}"
    if not clear:
        return f"{where}, no probe is clearly more accurate than {best}."
    tail = f", not on {listed(others)}" if others else ""
    count = "all" if not others else f"{len(clear)}"
    sets = f"{count} of {len(of_first)} sets" if others else "every set" if len(clear) > 1 else "the one set"
    return f"{where}, linear probes are clearly more accurate than {best} on {sets}: {listed(clear)}{tail}."


def _finding_items(found: Sequence[Finding]) -> Iterator[str]:
    """An item per set of each curve; beside curves, one for all sets of a model that was traced once."""
    curves = [finding for finding in found if finding.first_at]
    several = len({finding.model for finding in curves}) > 1
    for finding in curves or found:
        words = [finding.in_words()]
        words += [
            course.in_words(measure(metric)) + "." for metric in COURSES if (course := finding.courses.get(metric))
        ]
        model = f" ({finding.model})" if several else ""
        yield f"<li><b>{escape(finding.called + model)}</b>: {escape(' '.join(words))}</li>\n"
    for model in dict.fromkeys(finding.model for finding in found if curves and not finding.first_at):
        of_model = [finding for finding in found if finding.model == model]
        words = [f"{f.called} {f.last:.2f}" + (" (clearly above)" if f.clear else "") for f in of_model]
        yield f"<li><b>{escape(model)}</b>, traced beside it: {escape(', '.join(words))}.</li>\n"
