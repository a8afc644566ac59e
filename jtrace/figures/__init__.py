"""Figures of a run, built from its tables and log alone: PNG for the screen, PDF for print.

Each is drawn only where its data is there; files are named after what they show and the protocol.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd

from jtrace.behaviour import Vector, reported, vectors
from jtrace.dynamics import Trajectory, agreement, best_layer, evenly_chosen, trajectories, with_checkpoints
from jtrace.effects import Effect, by_source, by_task, compared, effects, gains, strongest
from jtrace.figures.comparison import behaviour_by_dimension
from jtrace.figures.correlation import correlations
from jtrace.figures.information import information_over_checkpoints, information_over_layers, information_plane
from jtrace.figures.pipeline import pipeline
from jtrace.figures.probes import accuracy_maps, accuracy_over_checkpoints, accuracy_over_layers
from jtrace.figures.projections import projected
from jtrace.figures.sources import gain_maps, trade_offs
from jtrace.figures.steering import behaviour_over_strength, shown_measures
from jtrace.figures.style import MOST_MARKERS, STYLE, Drawn, file_part, place_text, save, set_title
from jtrace.log import Passage, overlap, read
from jtrace.results import RunDirectory

MOST_PROJECTED = 3
# Above this only the target's own vectors and each task's strongest other are drawn over strengths.
MOST_SWEEPS = 12
LEVELS_CAPTION = (
    "The dashed line is a classifier that sees the texts and no model, the dotted line always guesses the label that "
    "most training statements have."
)
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


def draw_all(run: RunDirectory, metrics: pd.DataFrame) -> list[Drawn]:
    """Draw every figure that a run has data for into its folder `figures`.

    Args:
        metrics: the run's tables as one, as `read_metrics` returns them.

    Raises:
        InputError: a table of projections or of steering is damaged, or the log cannot be read.
    """
    folder = run.path / "figures"
    folder.mkdir(exist_ok=True)
    steering = run.read_steering()
    drawn: list[Drawn] = []
    with mpl.rc_context(STYLE):
        for protocol, rows in metrics.groupby("protocol"):
            curves = trajectories(rows)
            names = [f"{protocol}" if len(curves) == 1 else f"{protocol}_{file_part(c.model)}" for c in curves]
            for curve, name in zip(curves, names, strict=True):
                drawn += _over_training(curve, name, folder)
            drawn += _over_layers(rows, f"{protocol}", folder)
            drawn += _projections(run, rows, dict(zip(names, curves, strict=True)), f"{protocol}", folder)
            for curve, name in zip(curves, names, strict=True):
                drawn += _agreement(curve, reported(steering), name, folder)
        drawn += _steering(steering, folder)
        drawn += _pipeline(read(run.log_path), folder)
    return drawn


def _over_layers(metrics: pd.DataFrame, name: str, folder: Path) -> Iterator[Drawn]:
    ordered = with_checkpoints(metrics)
    if ordered["layer"].nunique() < 2:
        return
    sets, checkpoints = _counted(ordered["dataset"].nunique(), "statement set"), _counted_checkpoints(ordered)
    if (ordered["metric"] == "probe_accuracy").any():
        yield Drawn(
            save(accuracy_over_layers(ordered), folder / f"probe_accuracy_over_layers_{name}"),
            "probes",
            "Probe accuracy over layers",
            f"Line charts, one per statement set ({sets}): probe accuracy by layer, for {checkpoints}.",
            "Share of held-out statements that a linear probe labels rightly, layer by layer. " + LEVELS_CAPTION,
        )
    if ordered["metric"].isin(["mi_xt", "mi_yt"]).any():
        yield Drawn(
            save(information_over_layers(ordered), folder / f"information_over_layers_{name}"),
            "information",
            "Information over layers",
            f"Line charts, two per statement set ({sets}): I(X;T) and I(Y;T) by layer, for {checkpoints}.",
            "What a layer T keeps of the first layer's residual X, and what it holds of the label Y (normalised HSIC; "
            "no unit). Compare the course of a line, not the two scales.",
        )


def _over_training(curve: Trajectory, name: str, folder: Path) -> Iterator[Drawn]:
    of = f" of {curve.model}" if curve.model else ""
    span = f"{_counted(len(curve.checkpoints), 'checkpoint')}{of}"
    missing = f" Without {', '.join(curve.left_out)}, whose step is not known." if curve.left_out else ""
    metrics = set(curve.rows["metric"])
    thinned = f" {MOST_MARKERS} checkpoints, evenly chosen." if len(curve.checkpoints) > MOST_MARKERS else ""
    if "probe_accuracy" in metrics:
        yield Drawn(
            save(accuracy_over_checkpoints(curve), folder / f"probe_accuracy_over_checkpoints_{name}"),
            "probes",
            f"Probe accuracy over pre-training{of}",
            f"Line charts, one per statement set: probe accuracy over {span}, a line per layer.",
            f"A concept forms where a line leaves the dashed one. {LEVELS_CAPTION}{missing}",
        )
        yield Drawn(
            save(accuracy_maps(curve), folder / f"probe_accuracy_map_{name}"),
            "probes",
            f"Probe accuracy by layer and checkpoint{of}",
            f"Heat maps, one per statement set: probe accuracy by layer and checkpoint, {span}.",
            "Every traced layer (upwards) at every checkpoint (to the right, evenly spaced); the brighter, the more "
            f"accurate.{missing}",
        )
    if {"mi_xt", "mi_yt"} <= metrics:
        yield Drawn(
            save(information_over_checkpoints(curve), folder / f"information_over_checkpoints_{name}"),
            "information",
            f"Information over pre-training{of}",
            f"Line charts, two per statement set: I(X;T) and I(Y;T) over {span}, a line per layer.",
            "I(X;T) says how much of the input a layer keeps, I(Y;T) how much it holds of the label (normalised HSIC; "
            f"no unit). The paper reads a rise and later fall of I(X;T) as fitting, then compression.{missing}",
        )
        yield Drawn(
            save(information_plane(curve), folder / f"information_plane_{name}"),
            "information",
            f"Information plane{of}",
            f"Paths in the plane of I(X;T) and I(Y;T), one per layer, over {span}.",
            "Each path is a layer's way through pre-training, from dark to bright; the large marker is the last "
            "checkpoint. To the right: more of the input kept; up: more of the label held. Layer 0 is X itself and is "
            f"left out where there are others.{thinned}{missing}",
        )


def _projections(
    run: RunDirectory, metrics: pd.DataFrame, curves: dict[str, Trajectory], name: str, folder: Path
) -> Iterator[Drawn]:
    """Of each model's curve, or else of the only checkpoint."""
    ordered = with_checkpoints(metrics)
    if not curves:
        (only,) = ordered["checkpoint"].cat.categories
        yield from _projection(run, ordered, {only: only}, "", name, folder)
    for stem, curve in curves.items():
        chosen = {one: place_text(curve, one) for one in evenly_chosen(curve.checkpoints, MOST_PROJECTED)}
        yield from _projection(run, curve.rows, chosen, f" of {curve.model}" if curve.model else "", stem, folder)


def _projection(
    run: RunDirectory, rows: pd.DataFrame, chosen: dict[str, str], of: str, name: str, folder: Path
) -> Iterator[Drawn]:
    points = {title: run.read_projections(one.replace("/", "--")) for one, title in chosen.items()}
    there = {title: table for title, table in points.items() if table is not None}
    layers = {dataset: best_layer(rows, dataset) for dataset in dict.fromkeys(rows["dataset"])}
    known = {dataset: layer for dataset, layer in layers.items() if layer is not None}
    if there and known:
        yield Drawn(
            save(projected(there, known, {dataset: set_title(rows, dataset) for dataset in known}),
                 folder / f"projections_{name}"),
            "projections",
            f"Activations in two dimensions{of}",
            f"Scatter plots of statements by label, one per statement set and checkpoint: {', '.join(there)}.",
            "The statements' activations on their first two principal components, at the layer of the best probe at "
            "the last checkpoint. Where two clouds part, the concept is among the largest directions of that layer; "
            "where they do not, a probe may still find it along a smaller one.",
        )  # fmt: skip


def _agreement(curve: Trajectory, steering: pd.DataFrame, name: str, folder: Path) -> Iterator[Drawn]:
    table = agreement(curve, steering)
    if len(table):
        of = f" of {curve.model}" if curve.model else ""
        yield Drawn(
            save(correlations(table), folder / f"correlation_{name}"),
            "agreement",
            f"Probe accuracy and behaviour{of}",
            f"Pearson correlations of probe accuracy and behaviour over checkpoints, {len(table)} in all, with "
            "intervals.",
            "Pearson's r, over checkpoints, of probe accuracy at the layer of the best probe at the last checkpoint "
            "and of the unsteered model's behaviour; bars are 95 % intervals (Fisher's z). Checkpoints of one training "
            "are not independent: the intervals are too narrow.",
        )


def _steering(steering: pd.DataFrame, folder: Path) -> Iterator[Drawn]:
    """What was reached and which source reaches it, for each target; then single vectors' sweeps over strengths."""
    there = vectors(steering)
    found = by_task(effects(there))
    several = len({vector.protocol for vector in there}) > 1
    for target, protocol in dict.fromkeys(key[:2] for key in found):
        tasks = {(task, metric): group for (*of, task, metric), group in found.items() if of == [target, protocol]}
        name = file_part(f"{target}_{protocol}" if several else target)
        yield from _comparison(tasks, target, protocol, folder / f"steering_comparison_{name}")
        yield from _sources(list(tasks.values()), target, protocol, folder, name)
    sweeps = _sweeps(there)
    if len(sweeps) > MOST_SWEEPS:
        ends = [strongest(e for e in g if not e.vector.is_control and e.vector.own is own)
                for g in found.values() for own in (True, False)]  # fmt: skip
        shown = {effect.vector for effect in ends if effect}
        sweeps = [same for same in sweeps if shown & set(same)]
    for same in sweeps:
        yield _sweep(same, [one for one in there if any(one.controls(vector) for vector in same)], several, folder)


def _comparison(tasks: dict[tuple[str, str], list[Effect]], target: str, protocol: str, stem: Path) -> Iterator[Drawn]:
    groups = {pair: roles for pair, group in tasks.items() if (roles := compared(group))}
    if groups:
        yield Drawn(
            save(behaviour_by_dimension(groups), stem),
            "comparison",
            f"{target}, unsteered and steered",
            f"Bar charts with intervals, {_counted(len(groups), 'task')}: {target} unsteered, steered, and with a "
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
    count = _counted(len(set(table["source"])), "source checkpoint")
    yield Drawn(
        save(gain_maps(table, target), folder / f"steering_gain_map_{name}"),
        "comparison",
        f"{target}: which checkpoint's vector steers best",
        f"Heat maps, one per task: gain over the unsteered model by source checkpoint ({count}) and strength.",
        "Gain of the main metric over strength 0, at each vector's layer: blue is better, red is worse, grey was not "
        "measured; each panel has its own scale. Dots mark intervals that part from the unsteered model's; among so "
        f"many cells some do by luck. {LAYERS[protocol == 'sound']}",
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


def _sweeps(there: Sequence[Vector]) -> list[list[Vector]]:
    """What was steered with more than one strength; vectors that differ in positions or seed alone are together."""
    groups: dict[tuple[str, ...], list[Vector]] = {}
    for vector in there:
        if not vector.is_control:
            key = vector.target, vector.source, vector.kind, vector.dataset, vector.protocol
            groups.setdefault(key, []).append(vector)
    swept = [same for same in groups.values() if len({strength for one in same for strength in one.strengths}) > 1]
    return [same for same in swept if shown_measures(same)]


def _sweep(same: Sequence[Vector], controls: Sequence[Vector], by_protocol: bool, folder: Path) -> Drawn:
    first = same[0]
    made = f"{first.kind} vector" if first.kind else "vector"
    parts = [first.target, first.source, first.kind, first.dataset, first.protocol if by_protocol else ""]
    panels = len(shown_measures(same))
    return Drawn(
        save(behaviour_over_strength(same, controls), folder / f"steering_{file_part('_'.join(filter(None, parts)))}"),
        "steering",
        f"{first.target}, steered with the {made} of {first.source} for {first.dataset}"
        + (f", protocol {first.protocol}" if by_protocol else ""),
        f"Line charts of behaviour against steering strength, {_counted(panels, 'measure')}.",
        f"What {first.target} does when this vector, times the strength, is added to a layer. Strength 0 is the model "
        "as it is; bands are 95 % intervals."
        + (" Grey lines are controls, at the same layers." if controls else "")
        + (" Rows that layer and strength were chosen on are left out." if first.protocol == "sound" else ""),
    )


def _pipeline(passages: Sequence[Passage], folder: Path) -> Iterator[Drawn]:
    found = overlap(passages)
    if len(passages) < 2 or found is None:
        return
    yield Drawn(
        save(pipeline(passages), folder / "pipeline"),
        "pipeline",
        "Fetching, reading and computing over time",
        f"Bars over time, a lane per stage: {len(passages)} checkpoints; the wall time is {found.ratio:.2f} × that of "
        f"the slowest stage, {found.slowest}.",
        "A bar per checkpoint in each lane, neighbours in two shades; a checkpoint has the same shade in all lanes. "
        "Compute is all that the device does: extracting, statistics, and tasks where they are asked. A sweep is as "
        "fast as it can be where its slowest lane has no gaps. Time in which no command ran is cut out.",
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _counted_checkpoints(ordered: pd.DataFrame) -> str:
    names = list(ordered["checkpoint"].cat.categories)
    return names[0] if len(names) == 1 else f"{len(names)} checkpoints"
