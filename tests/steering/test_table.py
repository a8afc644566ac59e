"""Rows of steering tables, and the line that a table is told in."""

from dataclasses import replace

import pandas as pd
import pytest

from jtrace.evaluation.task import Choice, Outcome, Task
from jtrace.runs.steering_files import SCHEMA
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.table import Series, Target, measured_rows, missing_conditions, summary, with_rows
from jtrace.steering.vector import Condition, no_vector

ITEMS = tuple(Choice(i, "ba", ("0", "1"), group) for i, group in enumerate("aabbcc"))
TASK = Task("stereoset", ("paper", "sound"), ITEMS, lambda answers: {}, main="accuracy")
CONFIG = SteerConfig((0.0, 1.0), protocols=("sound",))
SERIES = Series(Target("chat", "float32", "weights"), no_vector(3, 4), "stereoset", TASK, CONFIG)
PLAIN, PUSHED = Condition((1,), 0.0), Condition((1,), 1.0)
UNSTEERED = {"accuracy": Outcome.of([0, 1, 0, 1, 0, 1])}
STEERED = {"accuracy": Outcome.of([1, 1, 1, 1, 1, 1])}


def table_of(*conditions):
    rows = [row for condition, outcomes in conditions for row in measured_rows(SERIES, condition, outcomes, UNSTEERED)]
    return with_rows(SERIES, SCHEMA.empty_table().to_pandas(), rows)


def test_a_steered_condition_has_its_gain_and_the_unsteered_one_has_none():
    rows = list(measured_rows(SERIES, PUSHED, STEERED, UNSTEERED))
    assert [row["metric"] for row in rows] == ["accuracy", "difference_accuracy", "validation_accuracy"]
    plain = list(measured_rows(SERIES, PLAIN, UNSTEERED, UNSTEERED))
    assert [row["metric"] for row in plain] == ["accuracy", "validation_accuracy"]
    assert rows[1]["value"] == pytest.approx(rows[0]["value"] - plain[0]["value"])


def test_a_better_setting_takes_the_choice_over():
    plain = table_of((PLAIN, UNSTEERED))
    assert plain[plain["metric"] == "chosen_accuracy"]["strength"].tolist() == [0.0]
    both = with_rows(SERIES, plain, list(measured_rows(SERIES, PUSHED, STEERED, UNSTEERED)))
    assert both[both["metric"] == "chosen_accuracy"]["strength"].tolist() == [1.0]


def test_a_condition_is_missing_until_every_protocol_has_its_rows():
    both = replace(SERIES, config=replace(CONFIG, protocols=("paper", "sound")))
    table = table_of((PUSHED, STEERED))
    assert missing_conditions(SERIES, table, [PLAIN, PUSHED]) == [PLAIN]
    assert missing_conditions(both, table, [PLAIN, PUSHED]) == [PLAIN, PUSHED]


def test_a_summary_compares_numbers_of_one_protocol():
    """Under `sound` a third of the rows chose the setting, so its numbers are of other rows than those of `paper`."""
    columns = ["protocol", "metric", "strength", "layer", "value"]
    rows = [("paper", "accuracy", 0, 0, 0.5), ("paper", "accuracy", 1, 2, 0.6), ("sound", "accuracy", 2, 2, 0.9)]
    line = summary(TASK, pd.DataFrame(rows, columns=columns))
    assert line == "accuracy 0.500 unsteered, best 0.600 (layer 2, strength 1)"
