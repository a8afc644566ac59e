"""Small tables as a run has them, for what is drawn and told from tables alone."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jtrace.checkpoints.audit import WeightFingerprint
from jtrace.checkpoints.refs import CheckpointRef
from jtrace.probing.records import Metric, Projection
from jtrace.runs.metrics_files import SCHEMA
from jtrace.runs.projection_files import PROJECTION_SCHEMA
from jtrace.runs.run_directory import RunDirectory
from jtrace.runs.steering_files import COLUMNS as STEERING_COLUMNS

# Probe accuracy peaks at layer 2, at 0.8 plus a thousandth per step.
VALUES = {"probe_accuracy": 0.8, "probe_auroc": 0.9, "mi_xt": 5.0, "mi_yt": 0.5}
LEVELS = {"text_accuracy": 0.6, "majority_accuracy": 0.52}
# Under `sound` as well: value and half interval, those that move as `VALUES` do and those that stand still.
MOVING = {
    "probe_accuracy": (0.8, 0.03),
    "probe_auroc": (0.9, 0.02),
    "gain_over_text": (0.2, 0.03),
    "gain_over_random_init": (0.25, 0.04),
    "selectivity": (0.3, 0.05),
    "mi_xt": (5.0, 0.4),
    "mi_yt": (0.5, 0.1),
    "mi_xt_excess": (3.0, 0.4),
    "mi_yt_excess": (0.4, 0.1),
    "mi_yt_bound": (0.15, 0.05),
}
STILL = {
    "text_accuracy": (0.6, 0.02),
    "majority_accuracy": (0.52, None),
    "random_init_accuracy": (0.55, 0.03),
    "control_accuracy": (0.5, 0.03),
    "probe_ece": (0.04, 0.01),
    "probe_ece_excess": (0.02, None),
    "probe_ece_p": (0.004, None),
    "effective_groups": (900.0, None),
    "mi_xt_null": (2.0, 0.3),
    "mi_yt_null": (0.1, 0.05),
    "mi_xt_p": (0.005, None),
    "mi_yt_p": (0.005, None),
}
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


def sound_table(steps, layers=4, datasets=("stereoset", "mine"), model="llama"):
    """As `metrics_table`, by protocol `sound`: every set's probe is tested on the others, with AUROC 0.7."""
    rows = []
    for row in metrics_table(steps, layers, datasets, model).query("metric == 'probe_accuracy'").to_dict("records"):
        base = row | {"protocol": "sound", "n": 2000}
        shift = row["value"] - VALUES["probe_accuracy"]
        values = {metric: (value + shift, half) for metric, (value, half) in MOVING.items()} | STILL
        values |= {f"transfer_auroc:{other}": (0.7, 0.03) for other in datasets if other != row["dataset"]}
        if row["layer"] == min(2, layers - 1):
            values["chosen_layer_accuracy"] = (values["probe_accuracy"][0] - 0.01, 0.03)
        for metric, (value, half) in values.items():
            ends = {} if half is None else {"ci_low": value - half, "ci_high": value + half}
            rows.append(base | {"metric": metric, "value": value, "ci_low": None, "ci_high": None} | ends)
    table = pd.DataFrame(rows, columns=SCHEMA.names)
    return table.astype({"step": "Int64", "tokens": "Int64", "ci_low": float, "ci_high": float})


def both_protocols(steps, **options):
    """`metrics_table` and `sound_table` as one."""
    return pd.concat([metrics_table(steps, **options), sound_table(steps, **options)], ignore_index=True)


def of_curve(protocol, metric, checkpoint, at, **others):
    """A row of a table of dynamics, its interval from `at` less 10 to `at` more 10; `others` override columns."""
    return {
        "model": "llama",
        "axis": "pre-training step",
        "protocol": protocol,
        "dataset": "mine",
        "dimension": "",
        "layer": 2,
        "metric": metric,
        "checkpoint": checkpoint,
        "at": at,
        "ci_low": at - 10,
        "ci_high": at + 10,
    } | others


def onset_row(at, **others):
    """Of the gain at layers chosen on rows apart; NaN for one that is not clear."""
    line = "the largest of text_accuracy, majority_accuracy, random_init_accuracy and 0.5"
    checkpoint = f"llama@step{at}" if at == at else ""
    return of_curve("sound", "chosen_layer_gain", checkpoint, at, line=line) | others


def turn_row(protocol, at, p, **others):
    """Of I(X;T) as the protocol has it."""
    metric = "mi_xt_excess" if protocol == "sound" else "mi_xt"
    return of_curve(protocol, metric, f"llama@step{at}", at, rise=2.0, fall=1.5, p=p) | others


def dynamics_tables(steps, datasets=("mine",), layers=4):
    """Every table of dynamics for runs of `both_protocols`, small; vectors turn with the distance of checkpoints."""
    names = [f"llama@step{step}" for step in steps]
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    per_set = [(dataset, layer) for dataset in datasets for layer in range(layers)]
    where = {"protocol": "sound", "dimension": ""}
    angle = {"model": "llama", "layer": 2, "other_layer": 2}
    middle = steps[len(steps) // 2]
    correlation = {
        f"{kind}{end}": r
        for kind, value in (("pearson", 0.9), ("spearman", 0.8), ("changes", 0.1))
        for end, r in (("", value), ("_low", value - 0.2), ("_high", value + 0.05))
    }
    curves = [(protocol, *place) for protocol in ("paper", "sound") for place in per_set]
    return {
        "onsets": pd.DataFrame([
            *(onset_row(middle, dataset=dataset) for dataset in datasets),
            *(onset_row(middle if layer else np.nan, dataset=dataset, layer=layer, metric="probe_accuracy")
              for dataset, layer in per_set),
        ]),
        "turns": pd.DataFrame([
            turn_row(protocol, middle, 0.005, dataset=dataset, layer=layer) for protocol, dataset, layer in curves
        ]),
        "change_points": pd.DataFrame([
            of_curve(protocol, "mi_xt_excess" if protocol == "sound" else "mi_xt", f"llama@step{middle}", middle,
                     dataset=dataset, layer=layer, number=1, slope_before=0.3, slope_after=-0.2)
            for protocol, dataset, layer in curves
        ]),
        "angles": pd.DataFrame([
            *(angle | {"kind": "checkpoints", "dataset": dataset, "other_dataset": dataset, "checkpoint": names[i],
                       "other_checkpoint": names[j], "cosine": 1 - 0.1 * (j - i)}
              for dataset in datasets for i, j in pairs),
            *(angle | {"kind": "layers", "dataset": dataset, "other_dataset": dataset, "checkpoint": names[-1],
                       "other_checkpoint": names[-1], "layer": 0, "other_layer": layer, "cosine": 0.25}
              for dataset in datasets for layer in range(1, layers)),
            *(angle | {"kind": "sets", "dataset": one, "other_dataset": other, "checkpoint": name,
                       "other_checkpoint": name, "cosine": -0.5}
              for name in names for i, one in enumerate(datasets) for other in datasets[i + 1:]),
        ]),
        "subspaces": pd.DataFrame([
            {"model": "llama", "layer": 2, "checkpoint": name, "other_checkpoint": names[-1], "number": number,
             "degrees": 30.0 * number}
            for name in names[:-1] for number in (1, 2)
        ]),
        "correlations": pd.DataFrame([
            {"model": "llama", "protocol": protocol, "dataset": dataset, "dimension": "", "layer": 2,
             "x": "probe_accuracy", "y": "mi_xt", "n": len(steps)} | correlation
            for protocol in ("paper", "sound") for dataset in datasets
        ]),
        "transfer": pd.DataFrame([
            where | {"model": "llama", "dataset": dataset, "layer": layer, "trained_at": one, "tested_at": other,
                     "accuracy": 0.6, "auroc": 0.9 if one == other else 0.7, "n": 2000}
            for dataset, layer in per_set for one in names for other in names
        ]),
    }  # fmt: skip


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


def write_traced(run, ref=REF, value=0.0, content=None):
    """Write a checkpoint's results, its weights told apart by `value`."""
    weights = WeightFingerprint(f"digest of {value}", {"embedding": 1.0}, np.full((1, 4), value, np.float32))
    vectors = {"set": np.ones((2, 4), np.float32)}
    points = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    shown = Projection("set", "fairness", np.array([0, 4, 9]), np.array([0, 1, 1]), np.array([0, 1]), points)
    run.write_checkpoint(ref, vectors, {"made": "here", "layers": [0, 1]}, METRICS, weights, [shown], content)
