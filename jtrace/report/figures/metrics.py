"""Choice and captions of the figures of probes, information, activations and behaviour."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from jtrace.dynamics.trajectory import Trajectory, agreement, best_layer, evenly_chosen, with_checkpoints
from jtrace.report.figures.correlation import correlations
from jtrace.report.figures.information import information_over_checkpoints, information_over_layers, information_plane
from jtrace.report.figures.probes import accuracy_maps, accuracy_over_checkpoints, accuracy_over_layers
from jtrace.report.figures.projections import projected
from jtrace.report.figures.style import MOST_MARKERS, Drawn, place_text, save, set_title
from jtrace.report.format import counted
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.names import file_name

MOST_PROJECTED = 3
LEVELS_CAPTION = (
    "The dashed line is a classifier that sees the texts and no model, the dotted line always guesses the label that "
    "most training statements have."
)

CONTROLS_OVER_LAYERS = (
    " Bands are 95 % intervals. The two thin lines are probes of the same architecture with fresh random weights, and "
    "of a control task, at the last checkpoint."
)
CONTROLS_OVER_TRAINING = (
    " Bands are 95 % intervals. The two thin lines are probes of the same architecture with fresh random weights, and "
    "of a control task (the median of checkpoints), each at its own best layer."
)
NULL_CAPTION = (
    " Bands are 95 % intervals; the grey strip is where 95 % of permuted rows lie, {}: what is inside it is no more "
    "than nothing. Layer 0, which is X itself, is left out of I(X;T) where there are several others. The bound is what "
    "the probe's held-out predictions prove of I(Y;T), in nats; below 0 it proves nothing."
)


def draw_over_layers(metrics: pd.DataFrame, name: str, folder: Path) -> Iterator[Drawn]:
    """Draw accuracy and information over layers, of several checkpoints."""
    ordered = with_checkpoints(metrics)
    if ordered["layer"].nunique() < 2:
        return
    sets, checkpoints = counted(ordered["dataset"].nunique(), "statement set"), _counted_checkpoints(ordered)
    if (ordered["metric"] == "probe_accuracy").any():
        yield Drawn(
            save(accuracy_over_layers(ordered), folder / f"probe_accuracy_over_layers_{name}"),
            "probes",
            "Probe accuracy over layers",
            f"Line charts, one per statement set ({sets}): probe accuracy by layer, for {checkpoints}.",
            "Share of held-out statements that a linear probe labels rightly, layer by layer. "
            + LEVELS_CAPTION
            + (CONTROLS_OVER_LAYERS if _is_sound(ordered) else ""),
        )
    if ordered["metric"].isin(["mi_xt", "mi_yt"]).any():
        yield Drawn(
            save(information_over_layers(ordered), folder / f"information_over_layers_{name}"),
            "information",
            "Information over layers",
            f"Line charts, two per statement set ({sets}): I(X;T) and I(Y;T) by layer, for {checkpoints}.",
            "What a layer T keeps of the first layer's residual X, and what it holds of the label Y (normalised HSIC; "
            "no unit). Compare the course of a line, not the two scales."
            + (NULL_CAPTION.format("of the last checkpoint") if _is_sound(ordered) else ""),
        )


def draw_over_training(curve: Trajectory, name: str, folder: Path) -> Iterator[Drawn]:
    """Draw accuracy and information over a model's checkpoints."""
    title_end = f" of {curve.model}" if curve.model else ""
    span = f"{counted(len(curve.checkpoints), 'checkpoint')}{title_end}"
    missing = f" Without {', '.join(curve.left_out)}, whose step is not known." if curve.left_out else ""
    metrics = set(curve.rows["metric"])
    thinned = f" {MOST_MARKERS} checkpoints, evenly chosen." if len(curve.checkpoints) > MOST_MARKERS else ""
    sound = _is_sound(curve.rows)
    controls = CONTROLS_OVER_TRAINING if sound else ""
    null = NULL_CAPTION.format("of the drawn layers together") if sound else ""
    above = " Both are less the mean of their nulls." if sound else ""
    if "probe_accuracy" in metrics:
        yield Drawn(
            save(accuracy_over_checkpoints(curve), folder / f"probe_accuracy_over_checkpoints_{name}"),
            "probes",
            f"Probe accuracy over pre-training{title_end}",
            f"Line charts, one per statement set: probe accuracy over {span}, a line per layer.",
            f"A concept forms where a line leaves the dashed one. {LEVELS_CAPTION}{controls}{missing}",
        )
        yield Drawn(
            save(accuracy_maps(curve), folder / f"probe_accuracy_map_{name}"),
            "probes",
            f"Probe accuracy by layer and checkpoint{title_end}",
            f"Heat maps, one per statement set: probe accuracy by layer and checkpoint, {span}.",
            "Every traced layer (upwards) at every checkpoint (to the right, evenly spaced); the brighter, the more "
            f"accurate.{missing}",
        )
    if {"mi_xt", "mi_yt"} <= metrics:
        yield Drawn(
            save(information_over_checkpoints(curve), folder / f"information_over_checkpoints_{name}"),
            "information",
            f"Information over pre-training{title_end}",
            f"Line charts, two per statement set: I(X;T) and I(Y;T) over {span}, a line per layer.",
            "I(X;T) says how much of the input a layer keeps, I(Y;T) how much it holds of the label (normalised HSIC; "
            f"no unit). The paper reads a rise and later fall of I(X;T) as fitting, then compression.{null}{missing}",
        )
        yield Drawn(
            save(information_plane(curve), folder / f"information_plane_{name}"),
            "information",
            f"Information plane{title_end}",
            f"Paths in the plane of I(X;T) and I(Y;T), one per layer, over {span}.",
            "Each path is a layer's way through pre-training, from dark to bright; the large marker is the last "
            "checkpoint. To the right: more of the input kept; up: more of the label held. Layer 0 is X itself and is "
            f"left out where there are others.{above}{thinned}{missing}",
        )


def draw_projections(
    run: RunDirectory, metrics: pd.DataFrame, curves: dict[str, Trajectory], name: str, folder: Path
) -> Iterator[Drawn]:
    """Draw the activations of each model's curve, or else of the only checkpoint."""
    ordered = with_checkpoints(metrics)
    if not curves:
        (only,) = ordered["checkpoint"].cat.categories
        yield from _projection(run, ordered, {only: only}, "", name, folder)
    for stem, curve in curves.items():
        chosen = {one: place_text(curve, one) for one in evenly_chosen(curve.checkpoints, MOST_PROJECTED)}
        yield from _projection(run, curve.rows, chosen, f" of {curve.model}" if curve.model else "", stem, folder)


def _projection(
    run: RunDirectory, rows: pd.DataFrame, chosen: dict[str, str], title_end: str, name: str, folder: Path
) -> Iterator[Drawn]:
    points = {title: run.read_projections(file_name(one)) for one, title in chosen.items()}
    read = {title: table for title, table in points.items() if table is not None}
    layers = {dataset: best_layer(rows, dataset) for dataset in dict.fromkeys(rows["dataset"])}
    known = {dataset: layer for dataset, layer in layers.items() if layer is not None}
    if read and known:
        yield Drawn(
            save(projected(read, known, {dataset: set_title(rows, dataset) for dataset in known}),
                 folder / f"projections_{name}"),
            "projections",
            f"Activations in two dimensions{title_end}",
            f"Scatter plots of statements by label, one per statement set and checkpoint: {', '.join(read)}.",
            "The statements' activations on their first two principal components, at the layer of the best probe at "
            "the last checkpoint. Where two clouds part, the concept is among the largest directions of that layer; "
            "where they do not, a probe may still find it along a smaller one.",
        )  # fmt: skip


def draw_agreement(curve: Trajectory, steering: pd.DataFrame, name: str, folder: Path) -> Iterator[Drawn]:
    """Draw the correlations of probes and unsteered behaviour over a model's checkpoints."""
    table = agreement(curve, steering)
    if len(table):
        title_end = f" of {curve.model}" if curve.model else ""
        yield Drawn(
            save(correlations(table), folder / f"correlation_{name}"),
            "agreement",
            f"Probe accuracy and behaviour{title_end}",
            f"Pearson correlations of probe accuracy and behaviour over checkpoints, {len(table)} in all, with "
            "intervals where these can be given.",
            "Pearson's r, over checkpoints, of probe accuracy at the layer of the best probe at the last checkpoint "
            "and of the unsteered model's behaviour; bars are 95 % intervals over the effective number of checkpoints. "
            "A dot without a bar has a trend in it, or too few checkpoints: curves that both rise always correlate.",
        )


def _counted_checkpoints(ordered: pd.DataFrame) -> str:
    names = list(ordered["checkpoint"].cat.categories)
    return names[0] if len(names) == 1 else f"{len(names)} checkpoints"


def _is_sound(metrics: pd.DataFrame) -> bool:
    return bool((metrics["protocol"] == "sound").any())
