"""A control task recurs by last word, is balanced, and tells a probe that remembers words from one that does not."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jtrace.data.control_task import control_task
from jtrace.data.splits import repeated_folds

N, WORDS = 400, 40
LABELS = np.arange(N) // WORDS % 2


def texts_of(words):
    return [f"this is row {i} of word{w}." for i, w in enumerate(words)]


@pytest.fixture
def words():
    return np.random.default_rng(0).integers(0, WORDS, N)


def dealt(texts, labels=LABELS, repeats=1, seed=0):
    folds = repeated_folds(labels, np.arange(len(labels)), 5, repeats)
    return control_task(texts, labels, folds, seed), folds


def test_rows_with_the_same_last_word_have_the_same_label(words):
    task, _ = dealt(texts_of(words), repeats=2)
    assert task.labels.shape == (2, N)
    for of_repeat in task.labels:
        assert all(len(set(of_repeat[words == word])) == 1 for word in range(WORDS))
        assert abs(of_repeat.mean() - 0.5) < 0.05
    assert (task.labels[0] != task.labels[1]).any()
    assert task.recurs.all()
    upper = [text.upper() for text in texts_of(words)]
    np.testing.assert_array_equal(dealt(upper, repeats=2)[0].labels, task.labels)


def test_a_word_that_no_row_to_fit_on_has_does_not_recur(words):
    texts = [f"{text[:-1]} alone{i}." if i < 50 else text for i, text in enumerate(texts_of(words))]
    np.testing.assert_array_equal(dealt(texts)[0].recurs, np.arange(N) >= 50)


def test_a_set_with_one_last_word_has_no_control_task():
    task, _ = dealt(texts_of(np.zeros(N, int)))
    assert not task.recurs.any()
    np.testing.assert_array_equal(task.labels[0], LABELS)


def selectivities(sets):
    """Accuracy less the control's, of features that name the last word and of one that holds the label: [sets, 2]."""
    found = []
    for seed in range(sets):
        random = np.random.default_rng(seed)
        words, labels = random.integers(0, WORDS, N), random.integers(0, 2, N)
        task, folds = dealt(texts_of(words), labels, seed=seed)
        known = np.eye(WORDS)[words] + 0.1 * random.normal(size=(N, WORDS))
        concept = np.column_stack([1.5 * (2 * labels - 1), np.zeros(N)]) + random.normal(size=(N, 2))
        both = np.column_stack([known, concept])
        row = []
        for x in (both, concept):
            right = np.zeros((2, N))
            for fold in folds:
                for at, target in enumerate((labels, task.labels[0])):
                    fit = LogisticRegression(C=10, max_iter=500).fit(x[fold.train], target[fold.train])
                    right[at, fold.test] = fit.predict(x[fold.test]) == target[fold.test]
            row.append(right[0].mean() - right[1].mean())
        found.append(row)
    return np.array(found)


def test_a_probe_that_can_remember_words_has_less_selectivity_than_one_that_cannot():
    remembers, does_not = selectivities(5).mean(axis=0)
    assert remembers < 0.1
    assert does_not > 0.3


@pytest.mark.statistics
def test_selectivity_tells_the_two_apart_in_nearly_every_set():
    found = selectivities(300)
    apart = np.mean(found[:, 1] > found[:, 0] + 0.2)
    print(f"\nselectivity {found.mean(axis=0).round(3)}, told apart in {apart:.3f}")
    assert apart > 0.95
