"""The report's table of what was asked beside the effects of steering, so that every task stands in a table."""

from collections.abc import Collection

import pandas as pd

from jtrace.evaluation.task_facts import LOWER_IS_BETTER, is_trust, main_metric
from jtrace.report.page import Table
from jtrace.runs.names import VectorName
from jtrace.runs.steering_files import reported
from jtrace.steering.effects import Effect

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


def other_tasks(steering: pd.DataFrame, effects: Collection[Effect]) -> Table:
    """List each target, task, protocol and vector without an effect; no rows where there is none.

    Controls are left out, and so are tasks of trustworthiness that a model was asked without any vector.

    Args:
        steering: columns as in the run directory's steering tables.
        effects: what has a row elsewhere.
    """
    shown = {(e.vector.target, e.task, e.vector.protocol, str(e.vector.name), e.vector.dataset) for e in effects}
    rows = [
        [*key[:2], *_numbers(str(key[1]), str(key[2]), str(key[3]), str(key[4]), series)]
        for key, series in reported(steering).groupby(SERIES, sort=False, dropna=False)
        if key[:5] not in shown and not VectorName.parse(str(key[3])).control and (key[3] or not is_trust(str(key[1])))
    ]
    kept = [at for at in range(len(COLUMNS)) if any(row[at] is not None for row in rows)]
    return Table(CAPTION, [COLUMNS[at] for at in kept], [[row[at] for at in kept] for row in rows])


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
