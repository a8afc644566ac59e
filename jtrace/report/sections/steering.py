"""The report's section on steering: what each task came to, and each vector, with verdicts."""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from jtrace.checkpoints.names import in_order
from jtrace.dynamics.trajectory import agreement, trajectories
from jtrace.evaluation.task_facts import LOWER_IS_BETTER, better_by, dimension_of
from jtrace.report.format import spread
from jtrace.report.page import Block, Definitions, Details, Figure, Table, folded
from jtrace.report.steering_tasks import other_tasks
from jtrace.runs.names import CONTROLS
from jtrace.runs.steering_files import reported
from jtrace.steering.effects import Effect, by_task, effects, strongest
from jtrace.steering.results import Estimate, SteeredRows, vectors

MOST_OPEN = 24  # rows of a table that is shown at once
MOST_SWEEPS_OPEN = 3
CHOICES = {
    "sound": "layer and strength were chosen on validation rows, the values are of the other rows",
    "paper": "layer and strength are the best on the very rows that are reported, which flatters",
}
TERMS = (
    (
        "verdict",
        "better or worse: the gain is beyond its interval, that is, the 95 % interval of the paired difference from "
        "the unsteered model, on the same items, leaves 0 out; where that was not measured, the intervals with and "
        "without steering have nothing in common. Not clear: it is not. No interval: nothing can be said. None "
        "chosen: on the validation rows no strength was better than none.",
    ),
    ("gain", "Positive where steering made the metric better, whichever way that is."),
    (
        "best of, tied with",
        "Under paper the best of so many settings (vectors × layers × strengths) is told, and the best is lucky: its "
        "interval is the wider one that holds for all of a task's settings at once (Šidák). So many others are just "
        "as good, under sound on the validation rows.",
    ),
    ("better vectors", "How many improve the task beyond the interval; among several, some may do so by luck."),
    (
        "against control",
        "A better vector beside vectors that know nothing of the concept, each at its own best setting, under sound "
        "its own chosen one. Where one does as much, the gain is not owed to the concept; where none was run, any push "
        "of this size might do as much.",
    ),
    (
        "cost",
        "Perplexity ratio: that of steered text over the unsteered model's; from 1.5 on the text suffers. Capability: "
        "the change of accuracy. Judged, unparsable: the shares of completions that can be judged, and of answers that "
        "cannot be read.",
    ),
    (
        "strength",
        "Strength 1 adds as much as the standard deviation of the statements' projections on the vector, not the plain "
        "difference of class means (--vector_scale=plain).",
    ),
)


def steering_blocks(steering: pd.DataFrame, comparisons: Sequence[Figure], sweeps: Sequence[Figure]) -> Iterator[Block]:
    """Show what steering did to each task; nothing where nothing was steered.

    Args:
        steering: columns as in the run directory's steering tables.
        comparisons, sweeps: figures across tasks and sources, and of single vectors.
    """
    steered = vectors(steering)
    all_effects = effects(steered)
    published = [effect for effect in all_effects if not effect.vector.is_control]
    protocols = list(dict.fromkeys(effect.vector.protocol for effect in published))
    for protocol in protocols:
        yield _strongest_table([effect for effect in published if effect.vector.protocol == protocol], protocol)
    if published:
        yield Definitions(TERMS)
    yield from comparisons
    for protocol in protocols:
        yield _table([effect for effect in published if effect.vector.protocol == protocol], protocol)
    others = other_tasks(steering, all_effects)
    if others.rows:
        yield others
    if sweeps:
        yield _sweeps(sweeps, steered, is_open=not comparisons or len(sweeps) <= MOST_SWEEPS_OPEN)


def agreement_blocks(metrics: Iterable[pd.DataFrame], steering: pd.DataFrame) -> Iterator[Block]:
    """Show how probes and unsteered behaviour go together over checkpoints; nothing where too little was measured.

    Args:
        metrics: a run's tables, protocol by protocol.
        steering: columns as in the run directory's steering tables.
    """
    tables = [agreement(curve, reported(steering)) for rows in metrics for curve in trajectories(rows)]
    rows = [row for table in tables for row in table.to_numpy().tolist()]
    if rows:
        columns = ["set", "layer", "task", "measure", "r", "95 % from", "to", "checkpoints"]
        yield Table("Pearson's r over checkpoints; no interval where trends leave none", columns, rows)


def verdict(effect: Effect) -> str:
    """Say in a word or two what steering did to the task."""
    if effect.strength == 0:
        return "none chosen"
    if effect.apart is None:
        return "no interval"
    if not effect.apart:
        return "not clear"
    return "better" if effect.gain > 0 else "worse"


def against_controls(effect: Effect) -> str | None:
    """Say of each control whether a direction that knows nothing of the concept does as much; None of no gain."""
    if not effect.improves:
        return None
    if not effect.controls:
        return "none was run"
    return ", ".join(f"{kind} {_against(effect, control)}" for kind, control in effect.controls.items())


def _against(effect: Effect, control: Estimate) -> str:
    if better_by(effect.metric, control.value, effect.steered.value) >= 0:
        return "does as much"
    return "does less" if control.apart_from(effect.steered) else "is not told apart"


def _strongest_table(published: Sequence[Effect], protocol: str) -> Table:
    """A row per target and task: its strongest vector."""
    strongest_of = [(best, group) for group in by_task(published).values() if (best := strongest(group))]
    kinds = _control_kinds(published)
    rows = [
        _row(best, kinds) | {"better vectors": f"{sum(effect.improves for effect in group)} of {len(group)}"}
        for best, group in strongest_of
    ]
    return _as_table(f"The strongest vector of each task, protocol {protocol}; {CHOICES.get(protocol, '')}", rows)


def _table(published: Sequence[Effect], protocol: str) -> Block:
    """A row per target, task and vector."""
    kinds = _control_kinds(published)
    table = _as_table(
        f"What steering did at one setting of each vector, protocol {protocol}; {CHOICES.get(protocol, '')}",
        [_row(effect, kinds) for effect in _ordered(published)],
    )
    return folded(table, MOST_OPEN, f"All vectors and tasks, protocol {protocol}")


def _as_table(caption: str, rows: Sequence[dict[str, object]]) -> Table:
    """Columns that say nothing, or of positions and seed the same, are left out."""
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    columns = [name for name in columns if name not in ("positions", "seed") or len({row[name] for row in rows}) > 1]
    return Table(caption, columns, [[row[name] for name in columns] for row in rows])


def _row(effect: Effect, kinds: Sequence[str]) -> dict[str, object]:
    vector, task = effect.vector, effect.task
    dimension = dimension_of(task)
    return {
        "target": vector.target,
        "task": task if not dimension or dimension in task else f"{task} ({dimension})",
        "metric": effect.metric + (" (lower is better)" if effect.metric in LOWER_IS_BETTER else ""),
        "verdict": verdict(effect),
        "unsteered": effect.unsteered.value,
        "steered": effect.steered.value,
        "95 % from": effect.steered.ci_low,
        "to": effect.steered.ci_high,
        "gain": effect.gain,
        "its 95 %": _gain_interval(effect),
        "vector of": vector.source + (f" ({vector.kind})" if vector.kind else ""),
        "set": vector.dataset,
        "positions": str(vector.placement),
        "seed": vector.seed,
        "layer": effect.layer,
        "strength": f"{effect.strength:g}",
        "best of": effect.comparisons if effect.comparisons > 1 else None,
        "tied with": effect.tied or None,
        "against control": against_controls(effect),
        **{f"{kind} control's gain": effect.control_gain(kind) for kind in kinds},
        "perplexity ratio": effect.perplexity_ratio,
        "capability": effect.capability_change,
        "judged": effect.judged.value if effect.judged else None,
        "unparsable": effect.unparsable.value if effect.unparsable else None,
    }


def _gain_interval(effect: Effect) -> str | None:
    """Interval of the paired difference that the verdict rests on; None where it was not measured."""
    if effect.paired is None:
        return None
    wide, sign = effect.paired.among(effect.comparisons), better_by(effect.metric, 1, 0)
    low, high = (wide.ci_low, wide.ci_high) if sign > 0 else (-wide.ci_high, -wide.ci_low)
    return spread(Estimate(sign * wide.value, low, high), 3)


def _control_kinds(published: Sequence[Effect]) -> list[str]:
    return [kind for kind in CONTROLS if any(kind in effect.controls for effect in published)]


def _ordered(published: Sequence[Effect]) -> list[Effect]:
    """By target and task as they first come, then by source, the target's own vector last."""
    groups = list(dict.fromkeys((effect.vector.target, effect.task) for effect in published))
    sources = in_order({effect.vector.source for effect in published})
    return sorted(
        published,
        key=lambda e: (groups.index((e.vector.target, e.task)), e.vector.own, sources.index(e.vector.source)),
    )


def _sweeps(sweeps: Sequence[Figure], steered: Sequence[SteeredRows], is_open: bool) -> Details:
    count = len({(v.target, v.source, v.kind, v.dataset, v.protocol) for v in steered if not v.is_control})
    some = f": {len(sweeps)} of {count} vectors, the target's own and each task's strongest other"
    return Details("Behaviour over steering strength" + (some if len(sweeps) < count else ""), sweeps, is_open)
