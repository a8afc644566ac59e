"""TruthfulQA: answers cut out of completions and judged, and the three multiple-choice scores."""

import numpy as np
import pytest

from jtrace.data.loading import read_statements
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.evaluation.task import Completion
from jtrace.evaluation.truthfulqa import (
    MultipleChoice,
    answer_in,
    from_hub_rows,
    from_statements,
    generation_task,
    multiple_choice_task,
)

QUESTIONS = ("Why?", "When?", "Where?")


def mean(outcome):
    return np.average(outcome.values, weights=outcome.weights)


def said(*texts):
    return [Completion(text, "the published code reads whole answers here") for text in texts]


def has(word):
    """A judge that looks for a word."""
    return lambda questions, answers: np.array([word in answer for answer in answers])


# Generation


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("\nA: Paris.\n\nQ: What next?\nA: More.", "Paris."),
        (" Paris.\n\nQ: What next?", "Paris."),
        ("It is so.", "It is so."),
        ("Surely.\nA: Paris. \nA: Rome.", "Paris."),
        ("Q: What?\nA: Paris.", ""),
        ("A:", ""),
        ("", ""),
    ],
)
def test_the_answer_is_cut_out_as_published(text, answer):
    assert answer_in(text) == answer


def test_after_the_canonical_primer_the_answer_begins_at_once():
    heard = []
    task = generation_task(QUESTIONS[:1], "canonical", lambda questions, answers: heard.extend(answers) or [True], None)
    task.measure(said(" Paris.\nA: Rome.\n\nQ: And?"))

    assert heard == ["Paris."]


def test_answers_are_judged_with_their_questions():
    heard = []
    task = generation_task(
        QUESTIONS[:2], "published", lambda *pair: heard.extend(zip(*pair, strict=True)) or [1, 0], None
    )
    task.measure(said("\nA: Because.\n\nQ: x", "\nA: Now."))

    assert heard == [("Why?", "Because."), ("When?", "Now.")]


def test_both_verdicts_and_their_conjunction():
    task = generation_task(QUESTIONS, "published", has("true"), has("info"))
    outcomes = task.measure(said("A: true info", "A: true", "A: I have no comment."))

    assert {name: outcome.values.tolist() for name, outcome in outcomes.items()} == {
        "true": [1, 1, 0],
        "info": [1, 0, 0],
        "true_and_info": [1, 0, 0],
        "no_comment": [0, 0, 1],
    }


@pytest.mark.parametrize(
    ("truth", "info", "metrics", "main"),
    [
        (has("a"), has("b"), {"true", "info", "true_and_info", "no_comment"}, "true_and_info"),
        (has("a"), None, {"true", "no_comment"}, "true"),
        (None, has("b"), {"info", "no_comment"}, "info"),
    ],
)
def test_what_nobody_judges_is_left_out(truth, info, metrics, main):
    task = generation_task(QUESTIONS, "canonical", truth, info)

    assert set(task.measure(said("a", "b", "ab"))) == metrics
    assert task.main == main
    assert task.higher_is_better


def test_each_primer_belongs_to_its_protocol():
    published, canonical = (generation_task(QUESTIONS, name, has("a"), None) for name in ("published", "canonical"))

    assert (published.protocols, canonical.protocols) == (("paper",), ("sound",))
    assert published.items[1].text.endswith("California, USA.\n\nQ: When?")
    assert canonical.items[1].text.endswith("Barcelona, Spain.\n\nQ: When?\nA:")
    assert [item.index for item in canonical.items] == [0, 1, 2]
    assert canonical.max_new_tokens == 50


# Multiple choice

ROW = MultipleChoice("Which?", true=("one", "two"), false=("three", "four"), best="two")


def test_answers_follow_the_canonical_primer():
    task = multiple_choice_task([ROW])

    assert task.items[0].context.endswith("Barcelona, Spain.\n\nQ: Which?\nA:")
    assert task.items[0].continuations == (" one", " two", " three", " four")
    assert (task.protocols, task.main) == (("sound",), "mc2")


@pytest.mark.parametrize(
    ("shares", "mc1", "mc2", "mc3"),
    [
        ((0.1, 0.4, 0.3, 0.2), 1, 0.5, 0.5),
        ((0.4, 0.1, 0.3, 0.2), 0, 0.5, 0.5),
        ((0.4, 0.3, 0.1, 0.1), 1, 7 / 9, 1),
        ((0.2, 0.2, 0.2, 0.4), 0, 0.4, 0),
        ((0.2, 0.3, 0.3, 0.2), 0, 0.5, 0),
    ],
)
def test_the_three_scores_by_hand(shares, mc1, mc2, mc3):
    outcomes = multiple_choice_task([ROW]).measure([np.log(shares)])

    assert {name: mean(outcome) for name, outcome in outcomes.items()} == pytest.approx(
        {"mc1": mc1, "mc2": mc2, "mc3": mc3}
    )


@pytest.mark.parametrize(("shift", "lead", "mc2"), [(-1e4, 0, 0.5), (-1e4, 2e3, 1.0), (-1e4, -2e3, 0.0)])
def test_probabilities_too_small_for_a_float_are_compared_all_the_same(shift, lead, mc2):
    scores = np.array([shift + lead, shift + lead, shift, shift])

    assert mean(multiple_choice_task([ROW]).measure([scores])["mc2"]) == pytest.approx(mc2, abs=1e-12)


def test_without_a_best_answer_a_question_does_not_count_to_mc1():
    plain = MultipleChoice("Which?", ("one",), ("two",), None)
    outcomes = multiple_choice_task([plain, ROW]).measure([np.array([-2.0, -1]), np.array([-5.0, -1, -2, -3])])

    assert outcomes["mc1"].weights.tolist() == [0, 1]
    assert mean(outcomes["mc1"]) == 1
    assert outcomes["mc3"].values.tolist() == [0, 0.5]


def test_a_best_answer_spelled_otherwise_is_scored_too_but_has_no_share():
    task = multiple_choice_task([MultipleChoice("Which?", ("one",), ("two",), best="One!")])
    outcomes = task.measure([np.log([0.3, 0.3, 0.4])])

    assert task.items[0].continuations == (" one", " two", " One!")
    assert mean(outcomes["mc1"]) == 1
    assert mean(outcomes["mc2"]) == pytest.approx(0.5)


# Sources


def statements(*rows):
    texts, labels = zip(*rows, strict=True)
    return Statements(
        texts, np.array(labels), name="truthfulqa", source="a/mine.csv", rows=tuple(range(2, 2 + len(rows)))
    )


def test_statements_are_gathered_by_question():
    rows = statements(
        ("Q: Which?\tA: One.", 1),
        ("Q: What?\tA: Only true.", 1),
        ("Q: Which?\tA: Two.", 0),
        ("Q: How?\tA: Only false.", 0),
        ("Q: Which?\tA: Three.", 1),
        ("Q: Which?\tA: One.", 1),
    )

    assert from_statements(rows) == [MultipleChoice("Which?", ("One.", "Three."), ("Two.",), None)]


def test_a_row_of_another_form_is_refused():
    with pytest.raises(
        InputError, match=r"mine.csv, row 3: no question with an answer; write 'Q: …', a tab and 'A: …'"
    ):
        from_statements(statements(("Q: Which?\tA: One.", 1), ("Which? One.", 0)))


@pytest.mark.real
def test_the_published_statements_hold_410_questions(shared):
    found = from_statements(read_statements("truthfulqa", shared / "data"))

    assert len(found) == 410
    assert sum(len(row.true) + len(row.false) for row in found) == 2263


def hub_row(**changes):
    row = {
        "question": "Which?",
        "mc1_targets": {"choices": ["Two.", "Three."], "labels": [1, 0]},
        "mc2_targets": {"choices": ["One.", "Two.", "Three.", "Four."], "labels": [1, 1, 0, 0]},
    }
    return row | changes


def test_hub_rows_name_the_best_answer():
    assert from_hub_rows([hub_row()]) == [MultipleChoice("Which?", ("One.", "Two."), ("Three.", "Four."), "Two.")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Which?"}, "row 2: no question with choices and labels in mc1_targets"),
        (
            hub_row(mc2_targets={"choices": ["a", "b"], "labels": [1]}),
            "no question with choices and labels in mc2_targets",
        ),
        (hub_row(mc2_targets=None), "no question with choices and labels in mc2_targets"),
        (hub_row(mc1_targets={"choices": ["a"], "labels": [0]}), "0 best, 2 true and 2 false answers"),
        (hub_row(mc2_targets={"choices": ["a"], "labels": [1]}), "1 best, 1 true and 0 false answers"),
    ],
)
def test_hub_rows_of_another_form_are_refused(row, message):
    with pytest.raises(InputError) as caught:
        from_hub_rows([hub_row(), row])

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
