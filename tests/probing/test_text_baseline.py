"""The text-only baseline: what it sees, what it must not see, and what it reaches on the authors' sets."""

import time

import numpy as np
import pytest

from jtrace.data.loading import read_statements
from jtrace.data.registry import BUILTIN
from jtrace.data.statements import Statements
from jtrace.probing.sound_set import SoundConfig, sound_set
from jtrace.probing.text_baseline import text_baseline, text_scores

LETTERS = np.array(list("abcdefghij"))


def made_up(word, n=200, seed=0):
    """Random words; `word(label)` is put among those of each row."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 2)
    noise = ["".join(random.choice(LETTERS, 2)) for _ in range(8 * n)]
    texts = tuple(" ".join([*noise[8 * i : 8 * i + 4], word(label), *noise[8 * i + 4 : 8 * i + 8]])
                  for i, label in enumerate(labels))  # fmt: skip
    return Statements(texts, labels, name="mine", source="mine.csv", rows=tuple(range(2, n + 2)))


@pytest.mark.parametrize("word", [lambda label: ("no", "yes")[label], lambda label: ("maybe", "Maybe")[label],
                                  lambda label: "m" * (3 + 9 * label)])  # fmt: skip
def test_a_telling_word_capital_or_length_is_found(word):
    assert text_baseline(made_up(word)).text_accuracy > 0.9


def test_texts_that_tell_nothing_stay_near_chance():
    found = text_baseline(made_up(lambda label: "same", n=600))
    assert abs(found.text_accuracy - 0.5) < 0.15
    assert found.n == 120


def test_the_majority_is_that_of_the_training_rows():
    labels = np.array([1] * 6 + [0] * 2 + [0, 1])
    statements = Statements(tuple("abcdefghij"), labels, name="mine", source="mine.csv", rows=tuple(range(10)))
    assert text_baseline(statements).majority_accuracy == 0.5
    flipped = Statements(
        tuple("abcdefghij"), np.array([1] * 6 + [0] * 4), name="mine", source="mine.csv", rows=tuple(range(10))
    )
    assert text_baseline(flipped).majority_accuracy == 0


def test_rows_held_out_change_nothing_but_their_own_scores():
    statements = made_up(lambda label: ("no", "yes")[label])
    folds = sound_set(statements, SoundConfig()).folds
    scores = text_scores(statements, folds)
    assert scores.shape == (1, 200)
    assert np.mean((scores[0] > 0) == statements.labels) > 0.9

    test = folds[0].test
    texts = tuple("unseen " * 9 if i in test else text for i, text in enumerate(statements.texts))
    labels = np.where(np.isin(np.arange(200), test), 1 - statements.labels, statements.labels)
    changed = Statements(texts, labels, name="mine", source="mine.csv", rows=statements.rows)
    own = text_scores(changed, folds[:1])[0, test]
    assert len(np.unique(own)) == 1  # what was learnt elsewhere, of texts that are all alike
    kept = Statements(statements.texts, labels, name="mine", source="mine.csv", rows=statements.rows)
    np.testing.assert_array_equal(text_scores(kept, folds[:1])[0, test], scores[0, test])


def test_a_set_without_inner_rows_has_a_baseline_too():
    labels = np.array([0, 1, 0])
    assert text_baseline(Statements(("a", "b", "?"), labels, name="mine", source="mine.csv", rows=(2, 3, 4))).n == 1


def test_the_table_s_rows_join_with_the_probe_s():
    statements = made_up(lambda label: "same")
    rows = text_baseline(statements).metrics(statements, [0, 3])
    assert {(row.layer, row.metric) for row in rows} == {
        (layer, metric) for layer in (0, 3) for metric in ("text_accuracy", "majority_accuracy", "effective_groups")
    }
    assert {(row.dataset, row.protocol, row.n, row.seed) for row in rows} == {("mine", "paper", 40, 0)}
    assert len({row.value for row in rows if row.metric == "text_accuracy"}) == 1


@pytest.mark.slow
@pytest.mark.real
def test_the_authors_sets_are_largely_told_by_their_texts(shared):
    started = time.process_time()
    found = {name: text_baseline(read_statements(name, shared / "data")).text_accuracy for name in BUILTIN}
    assert found["sst2"] > 0.99
    assert found["truthfulqa"] > 0.68
    assert all(found[name] > 0.78 for name in ("toxigen", "confaide", "stereoset"))
    assert time.process_time() - started < 60


@pytest.mark.real
@pytest.mark.long
def test_on_grouped_folds_it_is_as_good_as_word_and_character_n_grams(shared):
    """Beside TF-IDF of word 1-2-grams and character 2-5-grams, logistic regression with C tried by hand."""
    peers = {"confaide": 0.802, "stereoset": 0.852, "toxigen": 0.788, "truthfulqa": 0.70, "sst2": 0.99}
    for name, peer in peers.items():
        statements = read_statements(name, shared / "data")
        scores = text_scores(statements, sound_set(statements, SoundConfig()).folds)
        assert np.mean((scores > 0) == statements.labels) > peer - 0.007, name
