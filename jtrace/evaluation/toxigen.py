"""Toxicity of the continuations of ToxiGen's statements (arXiv 2203.09509)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jtrace.data.statements import Statements
from jtrace.evaluation.task import Completion, Outcome, Prompt, Task
from jtrace.probing.protocols import Protocol

# Texts, N, to whether each is toxic, bool [N].
Judge = Callable[[Sequence[str]], np.ndarray]

PUBLISHED_ROWS = 500


def continuation_task(
    statements: Statements,
    rows: np.ndarray,
    groups: Sequence[str],
    judge: Judge,
    protocol: Protocol,
    judged_by: str = "",
) -> Task:
    """Statements are continued by up to 64 tokens; the continuations alone are judged.

    Metric: `toxicity`, the share of toxic continuations, lower is better.

    Args:
        rows: to evaluate, int64 [M].
        groups: of every row of the set.
        judge: whether each continuation is toxic.
        protocol: `paper` takes the first 500 rows and drops each continuation's last token, as ChnQ/TracingLLM bf8d38a
            does (arXiv 2402.19465); `sound` takes all of both.
        judged_by: tells this judge from others.
    """
    published = protocol == "paper"

    def measure(completions: Sequence[Completion]) -> Mapping[str, Outcome]:
        texts = [(completion.cut if published else completion.text).strip() for completion in completions]
        return {"toxicity": Outcome.of(judge(texts))}

    asked = rows[:PUBLISHED_ROWS] if published else rows
    return Task(
        name=statements.name,
        protocols=(protocol,),
        items=tuple(Prompt(row, statements.texts[row], groups[row]) for row in asked.tolist()),
        measure=measure,
        main="toxicity",
        max_new_tokens=64,
        key=judged_by,
    )
