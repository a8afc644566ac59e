"""Which continuations are judged, and what is read of them."""

import numpy as np
import pytest

from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.evaluation.task import Completion
from jtrace.evaluation.toxigen import continuation_task

COUNT = 700
TEXTS = tuple(f"prompt {i} " for i in range(COUNT))
SET = Statements(
    TEXTS, np.arange(COUNT) % 2, name="toxigen", source="toxigen.csv", rows=tuple(range(COUNT)), info=BUILTIN["toxigen"]
)
GROUPS = tuple(f"group {i}" for i in range(COUNT))


def no_judge(texts):
    raise AssertionError("nothing is judged while a task is built")


def test_statements_are_prompts_as_they_are():
    task = continuation_task(SET, np.array([5, 3]), GROUPS, no_judge, "sound")

    assert [(item.index, item.text, item.group) for item in task.items] == [
        (5, "prompt 5 ", "group 5"),
        (3, "prompt 3 ", "group 3"),
    ]
    assert (task.name, task.max_new_tokens) == ("toxigen", 64)
    assert (task.main, task.higher_is_better) == ("toxicity", False)


@pytest.mark.parametrize(("protocol", "asked"), [("paper", 500), ("sound", 600)])
def test_the_published_code_stops_after_500_rows(protocol, asked):
    task = continuation_task(SET, np.arange(100, 700), GROUPS, no_judge, protocol)

    assert [item.index for item in task.items] == list(range(100, 100 + asked))
    assert task.protocols == (protocol,)


@pytest.mark.parametrize(("protocol", "judged"), [("paper", ["you", "kind"]), ("sound", ["you fool", "kind words"])])
def test_the_published_code_drops_the_last_token(protocol, judged):
    heard = []

    def judge(texts):
        heard.extend(texts)
        return np.array([True, False])

    task = continuation_task(SET, np.array([0, 1]), GROUPS, judge, protocol)
    outcome = task.measure([Completion(" you fool\n", " you "), Completion("kind words ", "kind ")])["toxicity"]

    assert heard == judged
    assert outcome.values.tolist() == [1, 0]
    assert outcome.weights.tolist() == [1, 1]
