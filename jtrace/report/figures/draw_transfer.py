"""Choice and captions of the figures of transfer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from jtrace.report.figures.style import Drawn, file_part, save, set_title
from jtrace.report.figures.transfer import transfer_between_checkpoints, transfer_between_sets
from jtrace.report.format import counted
from jtrace.report.standings import SetAtLastCheckpoint, standings
from jtrace.runs.run_directory import RunDirectory

AUROC = "transfer_auroc:"


def draw_transfer(run: RunDirectory, metrics: pd.DataFrame, folder: Path) -> Iterator[Drawn]:
    """Draw AUROC between sets at each model's last checkpoint; between checkpoints where activations were kept.

    Args:
        metrics: the run's tables as one.

    Raises:
        InputError: the table of transfer is damaged.
    """
    tested = standings(metrics[metrics["protocol"] == "sound"])
    models = list(dict.fromkeys(standing.model for standing in tested))
    transfer = run.read_dynamics("transfer")
    for model in models:
        shown = [standing for standing in tested if standing.model == model]
        suffix = f"_{file_part(model)}" if len(models) > 1 else ""
        title_end = f" of {model}" if len(models) > 1 else ""
        values = auroc_between_sets(shown)
        if np.isfinite(values[~np.eye(len(shown), dtype=bool)]).any():
            yield _between_sets(shown, values, title_end, folder / f"transfer_sets{suffix}")
        if transfer is not None:
            yield from _between_checkpoints(transfer, shown, title_end, folder / f"transfer_checkpoints{suffix}")


def auroc_between_sets(shown: list[SetAtLastCheckpoint]) -> np.ndarray:
    """Read the AUROC of each set's probe, at its own best layer, on each set.

    Returns:
        [set of the probe, set of the statements], NaN where not measured.
    """
    values = np.full((len(shown), len(shown)), np.nan)
    for row, probe in enumerate(shown):
        for column, statements in enumerate(shown):
            metric = "probe_auroc" if row == column else AUROC + probe.dataset
            estimate = statements.estimate(metric, probe.layer)
            if estimate is not None:
                values[row, column] = estimate.value
    return values


def _between_sets(shown: list[SetAtLastCheckpoint], values: np.ndarray, title_end: str, stem: Path) -> Drawn:
    trained = [f"{standing.dataset}, layer {standing.layer}" for standing in shown]
    return Drawn(
        save(transfer_between_sets(values, trained, [standing.dataset for standing in shown]), stem),
        "transfer",
        f"Probes of one set on another{title_end}",
        f"Matrix of AUROC: the probe of each of {counted(len(shown), 'statement set')} on the statements of each, at "
        "the last checkpoint.",
        "A row is a set's probe at its own best layer (after its name), a column the set that it is tested "
        "on; the diagonal is held out. 0.5 is chance. Below it, the two sets' labels point opposite ways along the "
        "same direction, as where label 1 means the good side in one of them alone.",
    )


def _between_checkpoints(
    transfer: pd.DataFrame, shown: list[SetAtLastCheckpoint], title_end: str, stem: Path
) -> Iterator[Drawn]:
    curve = shown[0].curve
    layers = {standing.dataset: standing.layer for standing in shown if len(standing.part_of(transfer))}
    if curve is None or not layers:
        return
    titles = {standing.dataset: set_title(standing.rows, standing.dataset) for standing in shown}
    rows = transfer[(transfer["model"] == shown[0].model) & (transfer["protocol"] == shown[0].protocol)]
    yield Drawn(
        save(transfer_between_checkpoints(rows, curve, layers, titles), stem),
        "transfer",
        f"Probes of one checkpoint at another{title_end}",
        f"Heat maps, one per statement set ({len(layers)}): AUROC of each checkpoint's probe at each other one.",
        "At the layer of the best probe. A row is the probe of one checkpoint, a column the checkpoint whose "
        "activations it is tested on, on rows that it was not fitted on. Blue far from the diagonal: the direction is "
        "kept while training goes on; white: it is chance there.",
    )
