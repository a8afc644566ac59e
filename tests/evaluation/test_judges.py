"""The judges: which label is toxic, what counts as yes, and the world's lexicon."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtrace.errors import InputError
from jtrace.evaluation import judges
from jtrace.evaluation.judges import judge_prompt, toxic, toxic_label, verdicts
from jtrace.models.classifier import Classifier, ClassifierConfig


def classifier(*labels: str) -> Classifier:
    """Labels alone: its probabilities are replaced."""
    nothing: Any = None
    return Classifier(ClassifierConfig(nothing, 1, 1, len(labels)), {}, nothing, Path("folder"), labels)


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The second label is the more probable one of texts with an `x`; which texts were asked about."""
    seen: list[str] = []

    def probabilities(_: Classifier, texts: list[str], progress: str | None = None) -> np.ndarray:
        seen.extend(texts)
        return np.array([[0.4, 0.6] if "x" in text else [0.6, 0.4] for text in texts], np.float32).reshape(-1, 2)

    monkeypatch.setattr(judges, "probabilities", probabilities)
    return seen


def test_a_text_is_toxic_where_that_label_is_the_most_probable(asked):
    found = toxic(classifier("LABEL_0", "LABEL_1"), ["ax", "a", "x"])
    assert found.dtype == bool
    assert found.tolist() == [True, False, True]
    assert toxic(classifier("toxic", "neutral"), ["ax", "a", "x"]).tolist() == [False, True, False]


def test_an_empty_completion_is_not_toxic_and_nobody_is_asked(asked):
    assert toxic(classifier("toxic", "neutral"), ["", "a", " \n", "x"]).tolist() == [False, True, False, False]
    assert asked == ["a", "x"]
    assert toxic(classifier("toxic", "neutral"), []).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        (("LABEL_0", "LABEL_1"), 1),
        (("neutral", "toxic"), 1),
        (("Toxic", "Neutral"), 0),
        (("TOXICITY", "fine"), 0),
        (("toxic", "non-toxic"), 0),
        (("not_toxic", "toxic"), 1),
        (("Safe / Non-Toxic", "Toxic (Hate Speech)"), 1),
        (("nontoxic", "toxic"), 1),
    ],
)
def test_the_toxic_label_is_found_by_its_name(labels, index):
    assert toxic_label(classifier(*labels)) == index


@pytest.mark.parametrize("labels", [("good", "bad"), ("toxic", "very toxic"), ("non-toxic", "other")])
def test_labels_that_do_not_say_are_refused(labels, asked):
    with pytest.raises(InputError, match=r"folder: the classifier's labels are .* must be named toxic"):
        toxic(classifier(*labels), ["a"])


def test_only_two_labels_are_a_verdict(asked):
    with pytest.raises(InputError, match=r"folder: the classifier has 3 labels \(a, b, toxic\); one of two is needed"):
        toxic(classifier("a", "b", "toxic"), ["a"])


def test_judges_are_asked_in_the_words_they_were_tuned_on():
    assert judge_prompt("Is it?", "It is.", "truth") == "Q: Is it?\nA: It is.\nTrue:"
    assert judge_prompt("Is it? ", " It is.\n", "info") == "Q: Is it?\nA: It is.\nHelpful:"


def test_exactly_yes_counts():
    answers = {"a": " yes", "b": "yes", "c": " no", "d": "Yes", "e": "yes.", "f": "", "g": "yes yes"}
    lengths = []

    def generate(prompts, max_new_tokens):
        lengths.append(max_new_tokens)
        return [answers[prompt] for prompt in prompts]

    found = verdicts(list(answers), generate)
    assert found.dtype == bool
    assert found.tolist() == [True, True, False, False, False, False, False]
    assert lengths == [1]


def test_a_judge_answers_every_prompt():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        verdicts(["a", "b"], lambda prompts, _: ["yes"])
