"""Writes the course of pre-training into RUN/dynamics, from a run's tables, vectors, probes and kept activations."""

from pathlib import Path

import pandas as pd

from jtrace.dynamics.tables import dynamics
from jtrace.dynamics.trajectory import trajectories
from jtrace.probing.transfer import COLUMNS, between_checkpoints
from jtrace.probing.vector_files import Vectors, read_vectors
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.names import file_name


def write_course(run: RunDirectory, metrics: pd.DataFrame) -> None:
    """Computes the tables of dynamics and writes them; the file of a table without rows is removed.

    Args:
        metrics: the run's tables as one.

    Raises:
        InputError: a file of vectors, probes or activations is damaged.
        WriteError: the run directory cannot be written.
    """
    folder = run.path / "vectors"

    def read(checkpoint: str) -> Vectors | None:
        path: Path = folder / f"{checkpoint}.safetensors"
        return read_vectors(path) if path.is_file() else None

    tables = dynamics(metrics, run.read_steering(), read)
    run.write_dynamics({**tables, "transfer": _transfer(run, metrics)})


def _transfer(run: RunDirectory, metrics: pd.DataFrame) -> pd.DataFrame:
    """Computes transfer within each model whose activations were kept at two checkpoints or more."""
    tables = [pd.DataFrame(columns=list(COLUMNS))]
    sound = metrics[metrics["protocol"] == "sound"]
    dimensions = dict(zip(sound["dataset"], sound["dimension"], strict=True))
    for curve in trajectories(sound):
        kept = [name for name in curve.checkpoints if (run.path / "activations" / file_name(name)).is_dir()]
        if len(kept) < 2:
            continue
        files = {file_name(name): name for name in kept}
        table = between_checkpoints(curve.model, list(files), dimensions, run.read_probes, run.read_activations)
        tables.append(table.assign(**{at: table[at].map(files) for at in ("trained_at", "tested_at")}))
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]
