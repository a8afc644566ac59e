"""Choice and captions of the figures of steering."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from jtrace.report.figures.steering import behaviour_over_strength, shown_measures
from jtrace.report.figures.steering_comparison import behaviour_by_dimension
from jtrace.report.figures.steering_sources import gain_maps, trade_offs
from jtrace.report.figures.style import Drawn, file_part, save
from jtrace.report.format import counted
from jtrace.steering.effects import Effect, by_source, by_task, compared, effects, gains, strongest
from jtrace.steering.results import SteeredRows, vectors

# By whether the setting was chosen on rows that are not reported.
CHOICES = {
    True: "Layer, strength and checkpoint were chosen on validation rows; the values are of the other rows.",
    False: "Layer, strength and checkpoint are the best on the very rows that are reported, which flatters every "
    "steered bar.",
}
LAYERS = {
    True: "The layer was chosen on validation rows, the values are of the other rows.",
    False: "The layer is the one with the best gain on these rows, which flatters.",
}


def draw_steering(steering: pd.DataFrame, folder: Path, most: int) -> Iterator[Drawn]:
    """Draw what was reached and which source reaches it, for each target; then single vectors' sweeps over strengths.

    Args:
        steering: columns as in the run directory's steering tables.
        most: above so many sweeps only the target's own vectors and each task's strongest other are drawn.
    """
    steered = vectors(steering)
    groups = by_task(effects(steered))
    several = len({vector.protocol for vector in steered}) > 1
    for target, protocol in dict.fromkeys(key[:2] for key in groups):
        tasks = {key[2:]: group for key, group in groups.items() if key[:2] == (target, protocol)}
        name = file_part(f"{target}_{protocol}" if several else target)
        yield from _comparison(tasks, target, protocol, folder / f"steering_comparison_{name}")
        yield from _sources(list(tasks.values()), target, protocol, folder, name)
    sweeps = _sweeps(steered)
    if len(sweeps) > most:
        ends = [strongest(e for e in group if not e.vector.is_control and e.vector.own is is_own)
                for group in groups.values() for is_own in (True, False)]  # fmt: skip
        shown = {effect.vector for effect in ends if effect}
        sweeps = [same for same in sweeps if shown & set(same)]
    for same in sweeps:
        yield _sweep(same, [one for one in steered if any(one.controls(vector) for vector in same)], several, folder)


def _comparison(tasks: dict[tuple[str, str], list[Effect]], target: str, protocol: str, stem: Path) -> Iterator[Drawn]:
    groups = {pair: roles for pair, group in tasks.items() if (roles := compared(group))}
    if groups:
        yield Drawn(
            save(behaviour_by_dimension(groups), stem),
            "comparison",
            f"{target}, unsteered and steered",
            f"Bar charts with intervals, {counted(len(groups), 'task')}: {target} unsteered, steered, and with a "
            "random direction.",
            f"The main metric of each task; bars are 95 % intervals. {CHOICES[protocol == 'sound']} Where the random "
            "direction does as much as the vector, the gain is not owed to the concept.",
        )


def _sources(tasks: Sequence[Sequence[Effect]], target: str, protocol: str, folder: Path, name: str) -> Iterator[Drawn]:
    """Of tasks that vectors of several checkpoints were tried on."""
    chosen = [best for group in tasks if len(best := by_source(group)) > 1]
    if not chosen:
        return
    table = gains([effect for best in chosen for effect in best.values()])
    count = counted(len(set(table["source"])), "source checkpoint")
    yield Drawn(
        save(gain_maps(table, target), folder / f"steering_gain_map_{name}"),
        "comparison",
        f"{target}: which checkpoint's vector steers best",
        f"Heat maps, one per task: gain over the unsteered model by source checkpoint ({count}) and strength.",
        "Gain of the main metric over strength 0, at each vector's layer: blue is better, red is worse, grey was not "
        "measured or could not be judged; each panel has its own scale. Dots mark what is beyond the interval that "
        f"holds for all settings of the task at once. {LAYERS[protocol == 'sound']}",
    )
    for cost, words in (("perplexity_ratio", "perplexity"), ("capability_change", "capability")):
        if table[cost].notna().any():
            yield Drawn(
                save(trade_offs(table, target, cost), folder / f"steering_trust_against_{words}_{name}"),
                "comparison",
                f"{target}: trust gained against {words}",
                f"Scatter plots, one per task: gain against {words}, a point per source checkpoint ({count}) and "
                "strength.",
                "Each point is one checkpoint's vector at one strength, at that vector's layer; dark ones are "
                "early, bright ones late. The ring is the unsteered model; a vector that steers well goes straight up "
                f"from it. {LAYERS[protocol == 'sound']}",
            )


def _sweeps(steered: Sequence[SteeredRows]) -> list[list[SteeredRows]]:
    """What was steered with more than one strength; vectors that differ in positions or seed alone are together."""
    groups: dict[tuple[str, ...], list[SteeredRows]] = {}
    for vector in steered:
        if not vector.is_control:
            key = vector.target, vector.source, vector.kind, vector.dataset, vector.protocol
            groups.setdefault(key, []).append(vector)
    swept = [same for same in groups.values() if len({strength for one in same for strength in one.strengths}) > 1]
    return [same for same in swept if shown_measures(same)]


def _sweep(same: Sequence[SteeredRows], controls: Sequence[SteeredRows], by_protocol: bool, folder: Path) -> Drawn:
    first = same[0]
    made = f"{first.kind} vector" if first.kind else "vector"
    parts = [first.target, first.source, first.kind, first.dataset, first.protocol if by_protocol else ""]
    panels = len(shown_measures(same))
    return Drawn(
        save(behaviour_over_strength(same, controls), folder / f"steering_{file_part('_'.join(filter(None, parts)))}"),
        "steering",
        f"{first.target}, steered with the {made} of {first.source} for {first.dataset}"
        + (f", protocol {first.protocol}" if by_protocol else ""),
        f"Line charts of behaviour against steering strength, {counted(panels, 'measure')}.",
        f"What {first.target} does when this vector, times the strength, is added to a layer. Strength 0 is the model "
        "as it is; bands are 95 % intervals."
        + (" Grey lines are controls, at the same layers." if controls else "")
        + (" Rows that layer and strength were chosen on are left out." if first.protocol == "sound" else ""),
    )
