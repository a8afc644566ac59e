"""The report's table of what was asked beside the effects of steering, so that every task stands in a table."""

from collections.abc import Collection

import pandas as pd

from jtrace.report.html import table
from jtrace.runs.steering_files import reported
from jtrace.steering.effects import Effect
from jtrace.steering.results import CONTROLS, LOWER_IS_BETTER, is_trust, main_metric

COLUMNS = (
    *("target", "task", "metric", "protocol", "vector of", "set", "n", "unsteered", "95 % from", "to"),
    *("worst steered", "at layer", "strength", "from", "to"),
)
SERIES = ["target", "task", "protocol", "vector_from", "vector_set", "positions", "seed"]
NOT_JUDGED = "cannot be judged"
CAPTION = (
    "What else was asked: capability, perplexity, and tasks whose answers cannot be judged; each vector at the setting "
    "that is worst for the task. Perplexity is e to the mean negative log-probability of a token, documents scored "
    "whole, in windows of up to 1,024 tokens that move by half."
)


def other_tasks(steering: pd.DataFrame, found: Collection[Effect]) -> str:
    """HTML of a row per target, task, protocol and vector without an effect; empty where there is none.

    Controls are left out, and so are tasks of trustworthiness that a model was asked without any vector.

    Args:
        steering: columns as in the run directory's steering tables.
        found: what has a row elsewhere.
    """
    told = {(e.vector.target, e.task, e.vector.protocol, _name(e), e.vector.dataset) for e in found}
    rows = [
        [*key[:2], *_numbers(str(key[1]), str(key[2]), str(key[3]), str(key[4]), of)]
        for key, of in reported(steering).groupby(SERIES, sort=False, dropna=False)
        if key[:5] not in told and not _is_control(str(key[3])) and (key[3] or not is_trust(str(key[1])))
    ]
    kept = [at for at in range(len(COLUMNS)) if any(row[at] is not None for row in rows)]
    return table(CAPTION, [COLUMNS[at] for at in kept], [[row[at] for at in kept] for row in rows]) if rows else ""


def _numbers(task: str, protocol: str, source: str, dataset: str, rows: pd.DataFrame) -> list[object]:
    metric = main_metric(task, set(rows["metric"])) or str(rows["metric"].iloc[0])
    main = rows[rows["metric"] == metric]
    plain, steered = (main[(main["strength"] == 0) == unsteered] for unsteered in (True, False))
    order = steered.sort_values("value", ascending=metric not in LOWER_IS_BETTER, kind="stable")
    worst: list[object] = [None] * 5
    if len(order):
        row = order.iloc[0]
        value, *ends = _estimate(row)
        judged = value != NOT_JUDGED
        worst = [value, int(row["layer"]) if judged else None, f"{row['strength']:g}" if judged else None, *ends]
    unsteered = _estimate(plain.iloc[0]) if len(plain) else [None] * 3
    return [metric, protocol, source or None, dataset or None, int(main["n"].max()), *unsteered, *worst]


def _estimate(row: pd.Series) -> list[object]:
    """Value and interval; of no answer that counts, the words for it."""
    value, *ends = (float(row[name]) for name in ("value", "ci_low", "ci_high"))
    return [value if value == value else NOT_JUDGED, *(end if end == end else None for end in ends)]


def _name(effect: Effect) -> str:
    """As in the tables."""
    return effect.vector.source + (f":{effect.vector.kind}" if effect.vector.kind else "")


def _is_control(source: str) -> bool:
    return source.rpartition(":")[2].rpartition("-")[2] in CONTROLS and ":" in source
