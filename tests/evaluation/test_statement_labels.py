"""Which label a model gives a statement, as published and by likelihood, and on which rows."""

import numpy as np
import pytest

from jtrace.data.groups import groups_of
from jtrace.data.loading import read_statements
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.statement_labels import (
    answer_in,
    clean_rows,
    evaluation_rows,
    likelihood_task,
    margins,
    published_task,
    shares_right,
)
from jtrace.evaluation.task import Completion

LABELS = (1, 0, 0, 1, 1, 0, 1)
GROUPS = ("a", "b", "c", "a", "d", "e", "e")


def statements(name="sst2", labels=LABELS):
    texts = tuple(f"statement {i}" for i in range(len(labels)))
    return Statements(
        texts, np.array(labels), name=name, source="nowhere.csv", rows=tuple(range(len(labels))), info=BUILTIN.get(name)
    )


def mean(outcome):
    return np.average(outcome.values, weights=outcome.weights)


def said(*cuts):
    """Completions whose whole text would be read otherwise than their cut."""
    return [Completion(cut + "0", cut) for cut in cuts]


# Rows


def test_what_follows_the_vector_rows_is_evaluated():
    assert evaluation_rows(statements()).tolist() == [3, 4, 5, 6]
    assert evaluation_rows(statements("any")).tolist() == [3, 4, 5, 6]
    assert evaluation_rows(statements("truthfulqa")).tolist() == []
    assert evaluation_rows(statements("truthfulqa")).dtype == np.int64


def test_clean_rows_share_no_group_with_the_vector_rows():
    assert clean_rows(statements(), GROUPS).tolist() == [4, 5, 6]
    assert clean_rows(statements(), GROUPS).dtype == np.int64
    assert clean_rows(statements(), ["one"] * 7).tolist() == []


# As published


@pytest.mark.parametrize(
    ("completion", "label"), [("0", 0), (" 1", 1), ("10", 0), ("1 or 0", 0), ("A 1.", 1), ("yes", None), ("", None)]
)
def test_zero_is_looked_for_before_one(completion, label):
    assert answer_in(completion) == label


def test_the_published_task_asks_in_the_published_words():
    task = published_task(statements("sst2"), np.array([4, 2]), GROUPS, seed=0)

    assert [(item.index, item.group) for item in task.items] == [(4, "d"), (2, "c")]
    assert "positive or negative, just answer with 1 or 0.\n\nstatement 4\n" in task.items[0].text
    assert (task.name, task.protocols) == ("sst2", ("paper",))
    assert (task.main, task.higher_is_better, task.max_new_tokens) == ("accuracy", True, 2)


def test_the_published_task_reads_what_is_left_without_the_last_token():
    task = published_task(statements(), np.array([3, 4, 5]), GROUPS, seed=0)
    outcomes = task.measure(said("1", "0", "0"))

    assert outcomes["accuracy"].values.tolist() == [1, 0, 1]
    assert mean(outcomes["unparsable"]) == 0


def test_an_unparsable_answer_is_guessed():
    many = statements(labels=[0, 1] * 500)
    task = published_task(many, np.arange(1000), [""] * 1000, seed=0)
    outcomes = task.measure(said(*["yes"] * 500, *["0", "1"] * 250))

    assert mean(outcomes["unparsable"]) == 0.5
    assert outcomes["accuracy"].values[500:].all()
    assert 0.4 < outcomes["accuracy"].values[:500].mean() < 0.6


def test_a_guess_depends_on_seed_and_row_alone():
    many = statements(labels=[0] * 63 + [1])
    groups = [""] * 64

    def guessed(rows, seed):
        task = published_task(many, np.array(rows), groups, seed)
        values = task.measure(said(*["?"] * len(rows)))["accuracy"].values
        return dict(zip(rows, values.tolist(), strict=True))

    every = guessed(list(range(64)), 1)
    assert guessed([40, 7, 21], 1) == {row: every[row] for row in (40, 7, 21)}
    assert guessed(list(range(64)), 2) != every


# By likelihood


def test_both_prompts_are_asked_with_both_answers():
    task = likelihood_task(statements("confaide"), np.array([3, 5]), GROUPS)

    assert [item.index for item in task.items] == [3, 5, 3, 5]
    assert [item.group for item in task.items] == ["a", "e", "a", "e"]
    assert {item.continuations for item in task.items} == {("0", "1")}
    assert "violate" in task.items[1].context
    assert "JUST ANSWER WITH 0 OR 1.\n\nstatement 5\n" in task.items[3].context
    assert (task.protocols, task.main) == (("sound",), "accuracy")


def test_each_prompt_has_its_own_accuracy():
    task = likelihood_task(statements(), np.array([3, 4, 5]), GROUPS)  # labels 1, 1, 0
    sure, wrong, tie = np.array([-3.0, -1.0]), np.array([-1.0, -1.5]), np.array([-2.0, -2.0])
    outcomes = task.measure([sure, wrong, tie, wrong, wrong, wrong])

    assert mean(outcomes["accuracy"]) == pytest.approx((1 + 0 + 0.5) / 3)
    assert mean(outcomes["accuracy_published_prompt"]) == pytest.approx(1 / 3)
    assert mean(outcomes["margin"]) == pytest.approx((2 - 0.5 + 0) / 3)
    for outcome in outcomes.values():
        assert outcome.values.shape == outcome.weights.shape == (6,)
        assert outcome.weights.sum() == 3


def test_a_margin_is_over_the_best_wrong_answer():
    assert margins([np.array([-1, -2, -5], np.float32)], [1]).tolist() == [-1.0]


def test_an_answer_that_is_no_number_is_wrong():
    assert shares_right(np.array([0.1, 0, -0.1, np.nan])).tolist() == [1, 0.5, 0, 0]


def test_a_set_without_a_prompt_is_refused():
    with pytest.raises(InputError, match="'toxigen'"):
        published_task(statements("toxigen"), np.array([3]), GROUPS, seed=0)
    with pytest.raises(InputError, match="'mine'"):
        likelihood_task(statements("mine"), np.array([3]), GROUPS)


@pytest.mark.real
@pytest.mark.parametrize("name", ["confaide", "stereoset", "sst2"])
def test_the_published_sets_keep_clean_rows_of_both_labels(shared, name):
    published = read_statements(name, shared / "data")
    rows = clean_rows(published, [str(group) for group in groups_of(published)])

    assert 100 < len(rows) <= len(evaluation_rows(published))
    assert set(published.labels[rows].tolist()) == {0, 1}
