"""Data of the page's interactive part: the run's tables, choices of their rows, and both as JSON for a page.

Tables go column by column, as `page.js` reads them; texts in them are data, and no tag can begin in what is written.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from jtrace.dynamics.trajectory import best_layer, evenly_chosen, trajectories, with_checkpoints
from jtrace.report.figures.choice import chosen_sets
from jtrace.report.format import measure, visible
from jtrace.report.statement_texts import read_texts
from jtrace.runs.completion_files import read_completions
from jtrace.runs.log import SPANS, CheckpointTiming, read
from jtrace.runs.run_directory import RunDirectory
from jtrace.runtime.names import file_name
from jtrace.stats.sampling import evenly_spread

MOST_CHECKPOINTS = 24  # of a model
MOST_STATEMENTS = 400  # of a set: those that projections show
MOST_PROMPTS = 24  # of a file of completions
MOST_ROWS = 60_000  # of a table; a larger one stays in the run directory
DIGITS = 5
EACH_A_MODEL = "all models"  # where each checkpoint is one
# Metrics of the heat map, in the order in which they are offered.
EXPLORED = (
    "probe_accuracy",
    "probe_auroc",
    "gain_over_text",
    "gain_over_random_init",
    "selectivity",
    "mi_xt",
    "mi_yt",
    "mi_xt_excess",
    "mi_yt_excess",
    "mi_yt_bound",
    "probe_ece",
    "text_accuracy",
    "majority_accuracy",
    "random_init_accuracy",
    "control_accuracy",
    "vector_norm",
)
METRIC_COLUMNS = ["protocol", "model", "checkpoint", "step", "tokens", "dataset", "layer", "metric", "value", "ci_low",
                  "ci_high", "n"]  # fmt: skip
# The tables that the figures of a section are drawn from.
DRAWN_FROM = {
    "probes": ("metrics",),
    "information": ("metrics",),
    "projections": ("projections",),
    "dynamics": ("onsets", "turns", "change_points", "correlations"),
    "angles": ("angles", "subspaces"),
    "transfer": ("metrics", "transfer"),
    "comparison": ("steering",),
    "steering": ("steering",),
    "agreement": ("metrics", "steering"),
    "pipeline": ("stages",),
}

Tables = Mapping[str, pd.DataFrame]


def page_tables(
    run: RunDirectory, record: Mapping[str, Any], metrics: pd.DataFrame, steering: pd.DataFrame, dynamics: Tables
) -> dict[str, pd.DataFrame]:
    """Chooses the tables that a page carries, those with rows and no more than `MOST_ROWS` of them.

    Args:
        record: as in run.json.
        metrics, steering: columns as in the run directory's tables.
        dynamics: tables of RUN/dynamics, by name.

    Returns:
        `metrics`, `projections`, `statements` and `scores` (held out) of chosen sets and checkpoints, `completions`
        of the first prompts, `stages` (when each checkpoint went through which, in seconds), and the others whole.

    Raises:
        InputError: a table of projections or scores is damaged, or completions or the log cannot be read.
    """
    shown = _shown_metrics(metrics)
    scores = _scores(run, shown)
    tables = {
        "metrics": shown,
        "projections": _projections(run, shown),
        "statements": _statements(record, list(dict.fromkeys(shown["dataset"])), scores),
        "scores": scores,
        "completions": read_completions(run.path, MOST_PROMPTS),
        "steering": steering,
        "stages": _stages(read(run.log_path)),
        **dynamics,
    }
    return {name: rows for name, rows in tables.items() if 0 < len(rows) <= MOST_ROWS}


def page_data(tables: Tables) -> str:
    """Writes tables as JSON that may stand between the tags of a script; the same tables give the same text."""
    metrics: list[str] = list(tables["metrics"]["metric"].unique()) if "metrics" in tables else []
    content = {
        "tables": {name: _columns(rows) for name, rows in tables.items()},
        "names": {metric: measure(metric) for metric in metrics},
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _stages(passages: Sequence[CheckpointTiming]) -> pd.DataFrame:
    """Tabulates each stage of each checkpoint, in seconds since the first of all began."""
    spans = [
        (passage, stage, span) for passage in passages for stage in SPANS if (span := passage.span(stage)) is not None
    ]
    first = min((span.start for _, _, span in spans), default=0.0)
    # Numbered: a page that is passed on need not tell the names of hosts.
    process = {name: number for number, name in enumerate(dict.fromkeys(one.process for one in passages))}
    rows = [
        (one.checkpoint, process[one.process], stage, span.start - first, span.end - first)
        for one, stage, span in spans
    ]
    return pd.DataFrame(rows, columns=["checkpoint", "process", "stage", "start", "end"])


def _shown_metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics of chosen sets and checkpoints, in the order of checkpoints, then of `EXPLORED`."""
    if metrics.empty:
        return pd.DataFrame(columns=METRIC_COLUMNS)
    rows = with_checkpoints(metrics)
    model_of = _models(rows)
    rows = rows[rows["dataset"].isin(chosen_sets(metrics)) & rows["checkpoint"].isin(model_of)]
    rows = rows[rows["metric"].isin(EXPLORED)]
    rows = rows.assign(
        model=rows["checkpoint"].astype(str).map(model_of),
        checkpoint=pd.Categorical(rows["checkpoint"].astype(str), list(model_of)),
        metric=pd.Categorical(rows["metric"], EXPLORED),
        dataset=pd.Categorical(rows["dataset"], list(dict.fromkeys(rows["dataset"]))),
        protocol=pd.Categorical(rows["protocol"], ["sound", "paper"]),  # what can be believed comes first
    )
    rows = rows.sort_values(["protocol", "checkpoint", "dataset", "metric", "layer"], ignore_index=True)
    named = dict.fromkeys(("protocol", "checkpoint", "dataset", "metric"), "str")
    return rows[METRIC_COLUMNS].astype(named)


def _models(rows: pd.DataFrame) -> dict[str, str]:
    """The model of each chosen checkpoint, in order; one name for all where each is a model of its own."""
    curves = {curve.model: curve for curve in trajectories(rows.drop(columns="checkpoint"))}
    model_of = {
        name: model or EACH_A_MODEL
        for model, curve in curves.items()
        for name in evenly_chosen(curve.checkpoints, MOST_CHECKPOINTS)
    }
    if "" in curves:
        return model_of
    alone = rows[~rows["model"].isin(curves)].drop_duplicates("checkpoint")
    return model_of | dict(zip(alone["checkpoint"].astype(str), alone["model"], strict=True))


def _projections(run: RunDirectory, metrics: pd.DataFrame) -> pd.DataFrame:
    """Points of each set at the layer of its best probe at the model's last checkpoint."""
    tables = []
    for model, of_model in metrics.groupby("model", sort=False):
        names = list(dict.fromkeys(of_model["checkpoint"]))
        ordered = of_model[of_model["protocol"] == of_model["protocol"].iloc[0]]
        ordered = ordered.assign(checkpoint=pd.Categorical(ordered["checkpoint"], names, ordered=True))
        layers = {dataset: best_layer(ordered, dataset) for dataset in dict.fromkeys(of_model["dataset"])}
        for name in names:
            points = run.read_projections(file_name(name))
            if points is not None:
                of_layers = points[points["dataset"].map(layers) == points["layer"]]
                tables.append(of_layers.assign(model=model, checkpoint=name))
    columns = ["model", "checkpoint", "dataset", "layer", "row", "label", "x", "y"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _scores(run: RunDirectory, metrics: pd.DataFrame) -> pd.DataFrame:
    """Held-out scores of the statements on the page."""
    tables = []
    for name, model in metrics.groupby("checkpoint", sort=False)["model"].first().items():
        scores = run.read_scores(file_name(str(name)))
        if scores is not None:
            scores = scores[scores["dataset"].isin(metrics["dataset"])]
            most = scores.groupby(["dataset", "protocol"])["row"].transform(_among_shown).astype(bool)
            tables.append(scores[most].assign(model=model, checkpoint=str(name)))
    columns = ["protocol", "model", "checkpoint", "dataset", "layer", "row", "label", "score"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _among_shown(rows: "pd.Series[int]") -> "pd.Series[bool]":
    return rows.isin(rows.to_numpy()[evenly_spread(len(rows), MOST_STATEMENTS)])


def _statements(record: Mapping[str, Any], datasets: Sequence[str], scores: pd.DataFrame) -> pd.DataFrame:
    """Statements with their texts, where these are to be had; else rows and labels of those that have scores."""
    tables = [pd.DataFrame(columns=["dataset", "row", "label", "text"], dtype=object)]
    for dataset in datasets:
        scored = scores.loc[scores["dataset"] == dataset, ["dataset", "row", "label"]].drop_duplicates("row")
        statements = read_texts(record, dataset)
        if statements is not None:
            shown = {*evenly_spread(len(statements), MOST_STATEMENTS).tolist(), *scored["row"]}
            rows = [
                (dataset, row, int(statements.labels[row]), statements.texts[row])
                for row in sorted(shown)
                if 0 <= row < len(statements)
            ]
            tables.append(pd.DataFrame(rows, columns=["dataset", "row", "label", "text"], dtype=object))
        else:
            tables.append(scored.sort_values("row").assign(text=None).astype(object))
    return pd.concat([table for table in tables if len(table)] or tables, ignore_index=True)


def _columns(rows: pd.DataFrame) -> dict[str, Any]:
    """Each column as `{"all": value}`, `{"levels": …, "codes": …}` of texts, or a list of numbers."""
    return {str(name): _column(column) for name, column in rows.items()}


def _column(column: "pd.Series[Any]") -> Any:
    values = [_value(value) for value in column.astype(object)]
    levels = list(dict.fromkeys(values))
    if len(levels) == 1:
        return {"all": levels[0]}
    if any(isinstance(value, str) for value in levels):
        place = {level: at for at, level in enumerate(levels)}
        return {"levels": levels, "codes": [place[value] for value in values]}
    return values


def _value(value: Any) -> str | float | int | None:
    if isinstance(value, str):
        return visible(value)
    if pd.isna(value) or abs(value) == float("inf"):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.{DIGITS}g}")


def tables_of(section: str, tables: Collection[str]) -> Sequence[str]:
    """Names the tables on the page that the figures of a section are drawn from."""
    return [name for name in DRAWN_FROM.get(section, ()) if name in tables]
