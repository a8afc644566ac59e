"""Classifiers of texts: what each sees, what is learnt from training rows, and which one is taken."""

import numpy as np
import pytest

from jtrace.data.splits import Split
from jtrace.data.text_classifier import text_features, text_log_odds

ROWS = np.arange(120)
LABELS = ROWS // 2 % 2
SPLIT = Split(ROWS[:60], ROWS[60:90])


def noise(seed=0):
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("bcdfghklmn"), 5)) for _ in ROWS]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda word, label: f"{word} is {('no', 'yes')[label]} good", id="words"),
        pytest.param(lambda word, label: f"{word} of {word} {'x' * label}{word}", id="characters within words"),
        pytest.param(lambda word, label: word.title() if label else word, id="capitals"),
        pytest.param(lambda word, label: word + "a" * (2 + 9 * label), id="length"),
        pytest.param(lambda word, label: f"{word}{'.!'[label]}", id="signs"),
    ],
)
def test_inner_rows_find_the_classifier_that_sees_what_tells(text):
    texts = [text(word, label) for word, label in zip(noise(), LABELS, strict=True)]
    scores = text_log_odds(text_features(texts), LABELS, ROWS[:90], [SPLIT])
    assert np.mean((scores > 0)[90:] == LABELS[90:]) > 0.9


def test_rows_that_are_not_fitted_decide_nothing():
    texts = [f"word{i % 7} and{i % 3}" for i in ROWS]
    other = [*texts[:90], *(["unseen " * 9] * 30)]
    one, two = (text_log_odds(text_features(some), LABELS, ROWS[:90], [SPLIT])[:90] for some in (texts, other))
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_one_label_to_learn_from_is_certain():
    assert (text_log_odds(text_features(noise()), LABELS, np.array([2, 3]), ()) > 0).all()
    assert (text_log_odds(text_features(noise()), LABELS, np.array([0, 1]), ()) < 0).all()


def test_words_are_counted_with_their_neighbours_and_with_or_without_case():
    features = text_features(("The cat", "the cat"))
    assert features["words"].toarray().sum(axis=1).tolist() == [3, 3]
    assert features["words"].shape[1] == 5
    assert features["folded words"].shape[1] == 3
