"""Multiple choice by log-likelihood: what is asked, in which words, and what an answer is worth."""

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.evaluation.capability import SHOTS, CapabilityQuestion, capability_task

SKY = CapabilityQuestion(4, "Why is the sky blue?", ("scattering", "paint"), 0)
SEA = CapabilityQuestion(0, "Why is the sea salty?", ("tears", "rivers bring salt"), 1)
SUM = CapabilityQuestion(1, "2 + 2 = ?", ("3", "4", "5"), 1, subject="elementary_mathematics")
PRODUCT = CapabilityQuestion(2, "2 * 3 = ?", ("6", "7", "8"), 0, subject="elementary_mathematics")
MUSCLE = CapabilityQuestion(3, "What pumps blood?", ("heart", "liver", "lung"), 0, subject="anatomy")


def test_arc_and_mathqa_score_the_answers_texts_after_the_question():
    for name in ("arc_easy", "arc_challenge", "mathqa"):
        task = capability_task(name, [SKY], [], shots=0)

        (item,) = task.items
        assert item.context == "Question: Why is the sky blue?\nAnswer:"
        assert item.continuations == (" scattering", " paint")
        assert (item.index, item.group) == (4, "")
        assert (task.name, task.main, task.higher_is_better) == (name, "accuracy", True)
        assert task.protocols == ("paper", "sound")


def test_examples_are_the_first_dev_questions_with_their_right_answers():
    (item,) = capability_task("arc_easy", [SKY], [SEA, SKY], shots=1).items

    assert item.context == (
        "Question: Why is the sea salty?\nAnswer: rivers bring salt\n\nQuestion: Why is the sky blue?\nAnswer:"
    )


def test_mmlu_lists_lettered_answers_under_its_subject_and_scores_the_letters():
    (item,) = capability_task("mmlu", [PRODUCT], [MUSCLE, SUM], shots=1).items

    assert item.context == (
        "The following are multiple choice questions (with answers) about elementary mathematics.\n\n"
        "2 + 2 = ?\nA. 3\nB. 4\nC. 5\nAnswer: B\n\n"
        "2 * 3 = ?\nA. 6\nB. 7\nC. 8\nAnswer:"
    )
    assert item.continuations == (" A", " B", " C")


def test_mmlu_without_subjects_has_a_header_without_one():
    (item,) = capability_task("mmlu", [SKY], [SEA], shots=1).items

    assert item.context.startswith(
        "The following are multiple choice questions (with answers).\n\nWhy is the sea salty?\n"
    )


def test_race_shows_the_article_of_every_question_and_keeps_its_questions_together():
    article = "Ann met a fox. It was red."
    asked = CapabilityQuestion(0, "What was the fox?", ("red", "shy"), 0, context=article, group=article)

    (item,) = capability_task("race", [asked], [], SHOTS["race"]).items
    (after_one,) = capability_task("race", [asked], [asked], shots=1).items

    assert item.context == f"Article: {article}\n\nQuestion: What was the fox?\nAnswer:"
    assert item.group == article
    assert after_one.context == f"{item.context} red\n\n{item.context}"


def rates(name: str, question: CapabilityQuestion, scores: list[float]) -> tuple[float, float]:
    outcomes = capability_task(name, [question], [], shots=0).measure([np.array(scores, np.float32)])
    return tuple(float(outcomes[metric].values[0]) for metric in ("accuracy", "accuracy_normalised"))


def test_accuracy_takes_the_likeliest_answer_and_its_normalised_form_the_likeliest_per_character():
    # 'tears' has 5 characters, 'rivers bring salt' 17, without the leading blank.
    assert rates("arc_easy", SEA, [-5.0, -17.0]) == (0.0, 0.5)
    assert rates("arc_easy", SEA, [-5.0, -16.9]) == (0.0, 1.0)
    assert rates("arc_easy", SEA, [-5.0, -17.1]) == (0.0, 0.0)
    assert rates("arc_easy", SEA, [-5.0, -4.9]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "share"),
    [([-1, -1, -1], 1 / 3), ([-1, -1, -2], 1 / 2), ([-2, -1, -1], 0), ([-1, -2, -2], 1), ([float("nan"), -1, -1], 0)],
)
def test_answers_in_a_tie_share_what_one_is_worth(scores, share):
    assert rates("mmlu", PRODUCT, scores) == (share, share)


def test_a_metric_has_one_value_per_question_all_of_one_weight():
    outcomes = capability_task("arc_easy", [SKY, SEA], [], shots=0).measure([np.array([-1, -2]), np.array([-1, -20])])

    assert outcomes.keys() == {"accuracy", "accuracy_normalised"}
    assert outcomes["accuracy"].values.tolist() == [1, 0]
    assert outcomes["accuracy"].weights.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "test", "dev", "shots", "message"),
    [
        (
            "hellaswag",
            [SKY],
            [],
            0,
            "no capability task 'hellaswag'; there are mmlu, arc_easy, arc_challenge, race, mathqa",
        ),
        ("arc_easy", [], [SEA], 1, "arc_easy: the test split has no questions"),
        ("arc_easy", [SKY], [SEA], -1, "arc_easy: -1 examples"),
        (
            "arc_easy",
            [SKY],
            [],
            1,
            "arc_easy: the dev split is missing, but 1 examples are asked for; add arc_easy_dev",
        ),
        ("arc_easy", [SKY], [SEA], 2, "arc_easy: the dev split has 1 questions, but 2 examples are asked for"),
        (
            "mmlu",
            [MUSCLE, PRODUCT],
            [MUSCLE, MUSCLE, SUM],
            2,
            "mmlu: the dev split has 1 questions about elementary mathematics, but 2 examples are asked for",
        ),
    ],
)
def test_what_cannot_be_asked_is_named(name, test, dev, shots, message):
    with pytest.raises(InputError) as caught:
        capability_task(name, test, dev, shots)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
