"""The report's section on steering: what each task came to, in words and in one table per protocol."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

import pandas as pd

from jtrace.checkpoints.names import in_order
from jtrace.dynamics.trajectory import agreement, trajectories
from jtrace.report.html import paragraph, table
from jtrace.report.steering_tasks import other_tasks
from jtrace.runs.steering_files import reported
from jtrace.steering.effects import Effect, by_task, effects, strongest
from jtrace.steering.results import CONTROLS, LOWER_IS_BETTER, Estimate, SteeredRows, better_by, dimension_of, vectors

MOST_OPEN = 24  # rows of a table that is shown at once
MOST_SWEEPS_OPEN = 3
# From here on text suffers visibly.
MUCH_PERPLEXITY = 1.5
CHOICES = {
    "sound": "layer and strength were chosen on validation rows, the values are of the other rows",
    "paper": "layer and strength are the best on the very rows that are reported, which flatters",
}
GAIN = (
    "A gain is positive where steering made the metric better, whichever way that is. It is beyond its interval where "
    "the 95 % interval of the paired difference from the unsteered model, on the same items, leaves 0 out; where that "
    "was not measured, where the intervals with and without steering have nothing in common. Under paper the best of "
    "many settings (vectors × layers × strengths) is told, and the best is lucky: the interval is there the wider one "
    "that holds for all of a task's settings at once (Šidák). Strength 1 adds as much as the standard deviation of the "
    "statements' projections on the vector, not the plain difference of class means (--vector_scale=plain)."
)


def steering_section(steering: pd.DataFrame, compared: str, sweeps: str) -> str:
    """HTML; empty where nothing was steered.

    Args:
        steering: columns as in the run directory's steering tables.
        compared, sweeps: figures as HTML: across tasks and sources, and of single vectors.
    """
    there = vectors(steering)
    found = effects(there)
    parts = []
    if found:
        said = [f"<li><b>{escape(name)}</b>: {escape(words)}</li>\n" for name, words in verdicts(found)]
        parts.append(f'<ul class="findings">{"".join(said)}</ul>\n')
        parts.append(paragraph(GAIN))
    parts.append(compared)
    by_protocol: dict[str, list[Effect]] = {}
    for effect in found:
        if not effect.vector.is_control:
            by_protocol.setdefault(effect.vector.protocol, []).append(effect)
    parts += [_table(several, protocol) for protocol, several in by_protocol.items()]
    parts.append(other_tasks(steering, found))
    if sweeps:
        parts.append(_folded(sweeps, there, open_=not compared or sweeps.count("<figure") <= MOST_SWEEPS_OPEN))
    return "".join(parts)


def agreement_table(metrics: Iterable[pd.DataFrame], steering: pd.DataFrame) -> str:
    """HTML of how probes and unsteered behaviour go together over checkpoints; empty where too little was measured.

    Args:
        metrics: a run's tables, protocol by protocol.
        steering: columns as in the run directory's steering tables.
    """
    tables = [agreement(curve, reported(steering)) for rows in metrics for curve in trajectories(rows)]
    rows = [row for found in tables for row in found.to_numpy().tolist()]
    if not rows:
        return ""
    columns = ["set", "layer", "task", "measure", "r", "95 % from", "to", "checkpoints"]
    return table("Pearson's r over checkpoints; no interval where trends leave none", columns, rows)


def _folded(sweeps: str, there: Sequence[SteeredRows], open_: bool) -> str:
    steered = {(v.target, v.source, v.kind, v.dataset, v.protocol) for v in there if not v.is_control}
    drawn = sweeps.count("<figure")
    some = f": {drawn} of {len(steered)} vectors, the target's own and each task's strongest other"
    summary = "Behaviour over steering strength" + (some if drawn < len(steered) else "")
    return f"<details{' open' if open_ else ''}><summary>{summary}</summary>{sweeps}</details>\n"


def verdicts(found: Sequence[Effect]) -> Iterator[tuple[str, str]]:
    """What was found on each task of each target, under each protocol: the strongest vector against none and controls.

    Args:
        found: as `effects` returns them.
    """
    groups = by_task(effect for effect in found if not effect.vector.is_control)
    protocols = {protocol for _, protocol, _, _ in groups}
    targets = {target for target, _, _, _ in groups}
    for (target, protocol, task, _), group in groups.items():
        best = strongest(group)
        if best is not None:
            where = [task, *([target] if len(targets) > 1 else []), *([protocol] if len(protocols) > 1 else [])]
            yield ", ".join(where), in_words(best, group)


def in_words(best: Effect, group: Sequence[Effect]) -> str:
    """One effect against no steering, its controls and its cost, and how many of its group improve the task."""
    before, after, metric = best.unsteered, best.steered, best.metric
    sound = best.vector.protocol == "sound"
    if best.strength == 0:
        return f"on the validation rows no strength had a better {metric} than none ({before.value:.3f})."
    tied = f", tied with {best.tied} more" if best.tied else ""
    best_of = f" at the best of {best.settings} settings{tied}" if best.settings > 1 else ""
    course = f"{before.value:.3f} unsteered, {after.value:.3f}" + (" on the other rows" if sound else best_of)
    as_good = f"; tied with {best.tied} more on the validation rows" if sound and best.tied else ""
    setting = f"({_called(best)}, layer {best.layer}, strength {best.strength:g}{as_good})"
    what = "the strength chosen on validation rows" if sound else "steering"
    if best.improves:
        words = [f"{what} improved {metric} beyond its interval: {course} {setting}."]
        words += _against_controls(best)
    elif best.apart is None:
        words = [f"{course} in {metric} {setting}; without intervals nothing can be said of it."]
    elif best.gain < 0 and best.apart:
        words = [f"{what} made {metric} worse beyond its interval: {course} {setting}."]
    else:
        nothing = f"{what} did not move {metric}" if sound else f"no strength moved {metric} for the better"
        words = [f"{nothing} beyond its interval: {course} {setting}."]
    words += _costs(best)
    if len(group) > 1:
        clear = sum(effect.improves for effect in group)
        luck = "; among several, some may do so by luck" if clear and sound else ""
        words.append(f"{clear} of {len(group)} vectors improved it beyond its interval{luck}.")
    return " ".join(words)


def _against_controls(effect: Effect) -> list[str]:
    """Whether a direction that knows nothing of the concept does as much."""
    if not effect.controls:
        return ["No control was run there: any push of this size might do as much."]
    return [_against(effect, kind, control) for kind, control in effect.controls.items()]


def _against(effect: Effect, kind: str, control: Estimate) -> str:
    there = f"({control.value:.3f} at its own {'chosen' if effect.vector.protocol == 'sound' else 'best'} setting)"
    if better_by(effect.metric, control.value, effect.steered.value) >= 0:
        return f"The {kind} control does as much {there}: the gain is not owed to the concept."
    if not control.apart_from(effect.steered):
        return f"The {kind} control is not told apart from it {there}."
    return f"The {kind} control does not do as much {there}."


def _costs(effect: Effect) -> Iterator[str]:
    ratio, capability, unparsable = effect.perplexity_ratio, effect.capability_change, effect.unparsable
    judged = effect.judged
    if judged is not None and judged.value < 1:
        yield f"Only {judged.value:.1%} of the completions there can be judged."
    if ratio is not None:
        yield f"Perplexity there is {ratio:.2f} times the unsteered model's" + (
            ": the text suffers." if ratio >= MUCH_PERPLEXITY else "."
        )
    if capability is not None:
        yield f"Capability changes by {capability:+.3f}.".replace("-", "−")
    if unparsable is not None and unparsable.value > 0:
        yield f"{unparsable.value:.1%} of the answers there cannot be read."


def _table(found: Sequence[Effect], protocol: str) -> str:
    """A row per target, task and vector; columns that say nothing, or of positions and seed the same, are left out."""
    kinds = [kind for kind in CONTROLS if any(kind in effect.controls for effect in found)]
    rows = [_row(effect, kinds) for effect in _ordered(found)]
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    columns = [name for name in columns if name not in ("positions", "seed") or len({row[name] for row in rows}) > 1]
    caption = f"What steering did at one setting of each vector, protocol {protocol}; {CHOICES.get(protocol, '')}"
    body = table(caption, columns, [[row[name] for name in columns] for row in rows])
    if len(rows) <= MOST_OPEN:
        return body
    return (
        f"<details><summary>All {len(rows)} vectors and tasks, protocol {escape(protocol)}</summary>{body}</details>\n"
    )


def _row(effect: Effect, kinds: Sequence[str]) -> dict[str, object]:
    vector, task = effect.vector, effect.task
    dimension = dimension_of(task)
    return {
        "target": vector.target,
        "task": task if not dimension or dimension in task else f"{task} ({dimension})",
        "metric": effect.metric + (" (lower is better)" if effect.metric in LOWER_IS_BETTER else ""),
        "vector of": vector.source + (f" ({vector.kind})" if vector.kind else ""),
        "set": vector.dataset,
        "positions": vector.positions,
        "seed": vector.seed,
        "layer": effect.layer,
        "strength": f"{effect.strength:g}",
        "tied with": effect.tied or None,
        "unsteered": effect.unsteered.value,
        "steered": effect.steered.value,
        "95 % from": effect.steered.ci_low,
        "to": effect.steered.ci_high,
        "gain": effect.gain,
        "beyond its interval": {True: "yes", False: "no", None: None}[effect.apart],
        **{f"{kind} control's gain": effect.control_gain(kind) for kind in kinds},
        "perplexity ratio": effect.perplexity_ratio,
        "capability": effect.capability_change,
        "unparsable": effect.unparsable.value if effect.unparsable else None,
    }


def _ordered(found: Sequence[Effect]) -> list[Effect]:
    """By target and task as they first come, then by source, the target's own vector last."""
    groups = list(dict.fromkeys((effect.vector.target, effect.task) for effect in found))
    sources = in_order({effect.vector.source for effect in found})
    return sorted(
        found,
        key=lambda e: (groups.index((e.vector.target, e.task)), e.vector.own, sources.index(e.vector.source)),
    )


def _called(effect: Effect) -> str:
    vector = effect.vector
    kind = f"{vector.kind} " if vector.kind else ""
    return f"{kind}vector of {vector.source} for {vector.dataset}"
