"""Small tables as a run has them, for what is drawn and told from tables alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.checkpoints.audit import Fingerprint
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.results import PROJECTION_SCHEMA, SCHEMA, STEERING_COLUMNS, RunDirectory
from jtrace.trace import Metric, Projection

# Probe accuracy peaks at layer 2, at 0.8 plus a thousandth per step.
VALUES = {"probe_accuracy": 0.8, "probe_auroc": 0.9, "mi_xt": 5.0, "mi_yt": 0.5}
LEVELS = {"text_accuracy": 0.6, "majority_accuracy": 0.52}
REF = CheckpointRef("org/llama", "step3", Path("/models/llama/step3"), step=3)
METRICS = [Metric("set", "fairness", 0, "paper", "probe_accuracy", 0.75, n=20)]


def metrics_table(steps, layers=4, datasets=("stereoset", "mine"), model="llama", tokens_per_step=None):
    """A metrics table with a checkpoint per step; None stands for a model without one."""
    rows = [
        {
            "model": model,
            "revision": "" if step is None else f"step{step}",
            "step": step,
            "tokens": None if step is None or tokens_per_step is None else step * tokens_per_step,
            "dataset": dataset,
            "dimension": "fairness" if dataset == "stereoset" else "",
            "layer": layer,
            "protocol": "paper",
            "metric": metric,
            "value": value,
            "n": 400,
            "seed": 0,
        }
        for step in steps
        for dataset in datasets
        for layer in range(layers)
        for metric, value in (
            *((name, value - abs(layer - 2) / 10 + (step or 0) / 1000) for name, value in VALUES.items()),
            *LEVELS.items(),
        )
    ]
    table = pd.DataFrame(rows).reindex(columns=SCHEMA.names)
    return table.astype({"step": "Int64", "tokens": "Int64", "ci_low": float, "ci_high": float})


def write_run(path: Path, metrics: pd.DataFrame, **record) -> RunDirectory:
    """A run directory that holds these tables; `record` overrides what run.json says."""
    (path / "metrics").mkdir(parents=True)
    names = []
    for (model, revision), rows in metrics.groupby(["model", "revision"], sort=False):
        names.append((f"{model}@{revision}" if revision else model).replace("/", "--"))
        table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, path / "metrics" / f"{names[-1]}.parquet")
    datasets = list(dict.fromkeys(metrics["dataset"]))
    command = {
        "time": "2026-01-02T03:04:05+00:00",
        "command": "launch/trace.py --out=run",
        "checkpoints": names,
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        "versions": {"python": "3.12", "jtrace": "0.1.0"},
    }
    about = {"source": "x.csv", "dimension": "", "rows": 2000, "label_one_rows": 900, "label_one": None}
    base = {
        "config": {"dtype": "float32", "layers": "all"},
        "data": dict.fromkeys(datasets, "0123456789abcdef"),
        "sets": dict.fromkeys(datasets, about),
        "checkpoints": names,
        "commands": [command],
    }
    (path / "run.json").write_text(json.dumps(base | record))
    return RunDirectory(path)


def write_projections(run: RunDirectory, name: str, datasets=("stereoset", "mine"), layers=4, rows=30) -> None:
    random = np.random.default_rng(0)
    places = [(dataset, layer, row) for dataset in datasets for layer in range(layers) for row in range(rows)]
    table = pd.DataFrame(places, columns=["dataset", "layer", "row"])
    table = table.assign(dimension="", label=table["row"] % 2, x=random.normal(size=len(table)), y=0.0)
    run.projections_path(name).parent.mkdir(exist_ok=True)
    pq.write_table(
        pa.Table.from_pandas(table, schema=PROJECTION_SCHEMA, preserve_index=False).replace_schema_metadata(None),
        run.projections_path(name),
    )


def steering_table(targets, strengths=(0.0,), source="", dataset="", metrics=(("questions", "accuracy"),)):
    """A steering table of layers 1 and 2 whose values rise from target to target and with the strength."""
    rows = [
        {
            "target": target,
            "vector_from": source,
            "vector_set": dataset,
            "layer": layer,
            "strength": strength,
            "positions": "last",
            "task": task,
            "metric": metric,
            "value": value,
            "ci_low": value - 0.1,
            "ci_high": value + 0.1,
            "n": 100,
            "protocol": "paper",
            "seed": 0,
        }
        for number, target in enumerate(targets)
        for strength in strengths
        for layer in (1, 2)
        for task, metric in metrics
        for value in [0.3 + number / 10 + strength / 20]
    ]
    return pd.DataFrame(rows, columns=list(STEERING_COLUMNS))


def steered(values, task="stereoset", metric="accuracy", source="ckpt_1", dataset="stereoset", layer=1, **others):
    """Rows of one vector in the target `chat`: `values` by strength, each ± `half`; `others` override columns."""
    half = others.pop("half", 0.02)
    rows = [
        {
            "target": "chat",
            "vector_from": source,
            "vector_set": dataset,
            "layer": layer,
            "strength": float(strength),
            "positions": "last",
            "task": task,
            "metric": metric,
            "value": value,
            "ci_low": value - half,
            "ci_high": value + half,
            "n": 100,
            "protocol": "paper",
            "seed": 0,
        }
        | others
        for strength, value in values.items()
    ]
    return pd.DataFrame(rows, columns=list(STEERING_COLUMNS))


def write_steering(run: RunDirectory, table: pd.DataFrame, name: str = "a") -> None:
    (run.path / "steering").mkdir(exist_ok=True)
    table.to_parquet(run.path / "steering" / f"{name}.parquet")


def write_traced(run, ref=REF, value=0.0):
    """Write a checkpoint's results, its weights told apart by `value`."""
    weights = Fingerprint(f"digest of {value}", {"embedding": 1.0}, np.full((1, 4), value, np.float32))
    vectors = {"set": np.ones((2, 4), np.float32)}
    points = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    shown = Projection("set", "fairness", np.array([0, 4, 9]), np.array([0, 1, 1]), np.array([0, 1]), points)
    run.write_checkpoint(ref, vectors, {"made": "here", "layers": [0, 1]}, METRICS, weights, [shown])
