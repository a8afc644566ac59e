"""Choice and captions of the figures of the course of pre-training, from RUN/dynamics."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from jtrace.dynamics.trajectory import Trajectory
from jtrace.report.figures.angles import SquareMap, angles_over_training, cosine_maps, square
from jtrace.report.figures.correlation import correlations_of_measures
from jtrace.report.figures.onsets import onsets_by_layer
from jtrace.report.figures.style import Drawn, brief_names, file_part, save, set_title
from jtrace.report.figures.turns import turning_points
from jtrace.report.format import counted, measure
from jtrace.report.standings import SetAtLastCheckpoint, standings
from jtrace.runs.run_directory import RunDirectory

FITTING = ("mi_xt", "mi_xt_excess")
BY_CHECKPOINT, BY_LAYER, BY_SET = "checkpoints", "layers", "sets"


def draw_dynamics(run: RunDirectory, metrics: pd.DataFrame, folder: Path) -> Iterator[Drawn]:
    """Draw the course of each model that has a curve.

    Args:
        metrics: the run's tables as one.

    Raises:
        InputError: a table of dynamics is damaged.
    """
    names = ("onsets", "change_points", "turns", "angles", "subspaces", "correlations")
    tables = {name: table for name in names if (table := run.read_dynamics(name)) is not None}
    along = [standing for standing in standings(metrics) if standing.curve is not None]
    models = list(dict.fromkeys(standing.model for standing in along))
    for model in models:
        of_model = [standing for standing in along if standing.model == model]
        sets = {standing.dataset for standing in of_model}
        tables_of_model = {name: _of_sets(table[table["model"] == model], sets) for name, table in tables.items()}
        suffix = f"_{file_part(model)}" if len(models) > 1 else ""
        title_end = f" of {model}" if model else ""
        yield from _onsets(tables_of_model, of_model, suffix, title_end, folder)
        for protocol in dict.fromkeys(standing.protocol for standing in of_model):
            shown = [standing for standing in of_model if standing.protocol == protocol]
            yield from _turns(tables_of_model, shown, f"{protocol}{suffix}", title_end, folder)
            yield from _correlations(tables_of_model, shown, f"{protocol}{suffix}", title_end, folder)
        yield from _angles(tables_of_model, of_model, suffix, title_end, folder)


def _of_sets(table: pd.DataFrame, sets: Collection[str]) -> pd.DataFrame:
    """The rows between these sets; a table that names none is of all sets together."""
    for column in ("dataset", "other_dataset"):
        if column in table:
            table = table[table[column].isin(sets)]
    return table


def _onsets(
    tables: Mapping[str, pd.DataFrame], shown: Sequence[SetAtLastCheckpoint], suffix: str, title_end: str, folder: Path
) -> Iterator[Drawn]:
    if "onsets" not in tables:
        return
    table = tables["onsets"]
    table = table[table["metric"] == "probe_accuracy"]
    if table.empty:
        return
    titles = _titles(shown)
    count = counted(len(set(table["dataset"])), "statement set")
    yield Drawn(
        save(onsets_by_layer(table, _curve(shown), titles), folder / f"onsets{suffix}"),
        "dynamics",
        f"Onset of each layer{title_end}",
        f"Dots with bars by layer, one panel per statement set ({count}): where probe accuracy comes to stay above its "
        "line, protocol sound.",
        "The checkpoint from which on a layer's probe stays above what needs no training, by the paired difference, "
        "with its 95 % interval; open marks at the right rim are of layers where that is not clear. The line is the "
        "largest of text only, chance and random initialisation. Each layer is judged by itself: of many that are not "
        "above, some 3 % seem so.",
    )


def _turns(
    tables: Mapping[str, pd.DataFrame], shown: Sequence[SetAtLastCheckpoint], name: str, title_end: str, folder: Path
) -> Iterator[Drawn]:
    if "turns" not in tables:
        return
    protocol = shown[0].protocol
    table = tables["turns"]
    table = table[(table["protocol"] == protocol) & table["metric"].isin(FITTING)]
    layers = {standing.dataset: standing.layer for standing in shown if len(standing.part_of(table))}
    if not layers:
        return
    metric = table["metric"].iloc[0]
    changes = tables.get("change_points")
    if changes is not None:
        changes = changes[(changes["protocol"] == protocol) & (changes["metric"] == metric)]
    label = measure(metric)
    yield Drawn(
        save(turning_points(_curve(shown), table, changes, layers, label), folder / f"turns_{name}"),
        "dynamics",
        f"Fitting, then compression{title_end}, protocol {protocol}",
        f"Line charts, one per statement set ({len(layers)}): {label} at the layer of the best probe, with the peak of "
        "the fitted rise and fall.",
        "The vertical line is the peak of the best rise and fall, its shade the 95 % interval; p is the chance of as "
        "much of a turn in a curve that never turns, in noise that goes on from checkpoint to checkpoint as the "
        "curve's does, and above 0.05 the peak is grey. Triangles mark where the course changes, with intervals.",
    )


def _correlations(
    tables: Mapping[str, pd.DataFrame], shown: Sequence[SetAtLastCheckpoint], name: str, title_end: str, folder: Path
) -> Iterator[Drawn]:
    if "correlations" not in tables:
        return
    table = tables["correlations"]
    parts = [standing.part_of(table) for standing in shown]
    rows = pd.concat([part for part in parts if len(part)]) if any(map(len, parts)) else table.iloc[:0]
    if rows.empty:
        return
    protocol = shown[0].protocol
    yield Drawn(
        save(correlations_of_measures(rows, _titles(shown)), folder / f"correlations_{name}"),
        "dynamics",
        f"What goes together over checkpoints{title_end}, protocol {protocol}",
        f"Correlations with intervals, {counted(len(rows), 'pair')} of measures, three kinds each.",
        "At the layer of the best probe. Two curves that both rise always correlate; the correlation of their changes "
        "from checkpoint to checkpoint asks whether they move together. Bars are 95 % intervals over the effective "
        "number of checkpoints; a mark without a bar has a trend in it, or too few checkpoints, and proves nothing.",
    )


def _angles(
    tables: Mapping[str, pd.DataFrame], shown: Sequence[SetAtLastCheckpoint], suffix: str, title_end: str, folder: Path
) -> Iterator[Drawn]:
    curve, titles = _curve(shown), _titles(shown)
    if (table := tables.get("angles")) is not None:
        maps = [_between_checkpoints(table, dataset, curve, titles[dataset]) for dataset in titles]
        if known := [one for one in maps if one is not None]:
            yield Drawn(
                save(cosine_maps(known, ""), folder / f"cosines_checkpoints{suffix}"),
                "angles",
                f"Steering vectors between checkpoints{title_end}",
                f"Heat maps, one per statement set ({len(known)}): cosine of the vectors of every two checkpoints.",
                "At the layer of the best probe. Where a block of 1 begins, the direction has settled; a vector that "
                "is near 0 to all later ones pointed elsewhere.",
            )
        maps = [_between_layers(table, dataset, titles[dataset]) for dataset in titles]
        if known := [one for one in maps if one is not None]:
            yield Drawn(
                save(cosine_maps(known, "layer"), folder / f"cosines_layers{suffix}"),
                "angles",
                f"Steering vectors between layers{title_end}",
                f"Heat maps, one per statement set ({len(known)}): cosine of the vectors of every two layers.",
                "At the last checkpoint: which layers share a direction.",
            )
        if between := _between_sets(table, curve):
            yield Drawn(
                save(cosine_maps([between], ""), folder / f"cosines_sets{suffix}"),
                "angles",
                f"Steering vectors between sets{title_end}",
                f"Heat map: cosine of the vectors of every two statement sets ({len(between.names)}).",
                "At the last checkpoint. Red: what label 1 is in one set lies where label 0 is in the other, as where "
                "label 1 means the good side in one alone.",
            )
    angles = tables.get("subspaces")
    if angles is not None and len(angles):
        yield Drawn(
            save(angles_over_training(angles, curve), folder / f"subspaces{suffix}"),
            "angles",
            f"The sets' common space{title_end}",
            f"Line chart: {counted(angles['number'].nunique(), 'principal angle')} to the last checkpoint, over "
            "pre-training.",
            "Principal angles between the space that all sets' vectors span at a checkpoint and at the last one, in "
            "degrees: 0 is the same direction, 90 a new one. Where all are small the space has settled.",
        )


def _between_checkpoints(table: pd.DataFrame, dataset: str, curve: Trajectory, title: str) -> SquareMap | None:
    rows = table[(table["kind"] == BY_CHECKPOINT) & (table["dataset"] == dataset)]
    if rows.empty:
        return None
    held = {*rows["checkpoint"], *rows["other_checkpoint"]}
    brief = dict(zip(curve.checkpoints, brief_names(curve), strict=True))
    names = [name for name in curve.checkpoints if name in held]
    names += sorted(held - set(names))  # models that were traced once
    pairs = _pairs(rows, "checkpoint")
    return square(f"{title}, layer {rows['layer'].iloc[0]}", names, pairs, [brief.get(name, name) for name in names])


def _between_layers(table: pd.DataFrame, dataset: str, title: str) -> SquareMap | None:
    rows = table[(table["kind"] == BY_LAYER) & (table["dataset"] == dataset)]
    if rows.empty:
        return None
    layers = [str(layer) for layer in sorted({*rows["layer"], *rows["other_layer"]})]
    return square(title, layers, _pairs(rows, "layer"), layers)


def _between_sets(table: pd.DataFrame, curve: Trajectory) -> SquareMap | None:
    rows = table[table["kind"] == BY_SET]
    last = [name for name in curve.checkpoints if (rows["checkpoint"] == name).any()][-1:]
    if not last:
        return None
    rows = rows[rows["checkpoint"] == last[0]]
    sets = list(dict.fromkeys([*rows["dataset"], *rows["other_dataset"]]))
    return square(f"layer {rows['layer'].iloc[0]}", sets, _pairs(rows, "dataset"), sets)


def _pairs(rows: pd.DataFrame, by: str) -> dict[tuple[str, str], float]:
    ends = zip(rows[by].astype(str), rows[f"other_{by}"].astype(str), strict=True)
    return dict(zip(ends, rows["cosine"].astype(float), strict=True))


def _curve(shown: Sequence[SetAtLastCheckpoint]) -> Trajectory:
    curve = shown[0].curve
    assert curve is not None  # only standings on a curve are drawn here
    return curve


def _titles(shown: Sequence[SetAtLastCheckpoint]) -> dict[str, str]:
    return {standing.dataset: set_title(standing.rows, standing.dataset) for standing in shown}
