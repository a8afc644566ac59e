"""The text-only baseline: what it sees, what it must not see, and what it reaches on the authors' sets."""

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jtrace.baselines import FEATURE_BLOCK, MOST_WORDS, text_baseline, text_features
from jtrace.data.statements import BUILTIN, Statements, read_statements
from tests.bars import within

LETTERS = np.array(list("abcdefghij"))


def made_up(word, n=200, seed=0):
    """Random words; `word(label)` is put among those of each row."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 2)
    noise = ["".join(random.choice(LETTERS, 2)) for _ in range(8 * n)]
    texts = tuple(" ".join([*noise[8 * i : 8 * i + 4], word(label), *noise[8 * i + 4 : 8 * i + 8]])
                  for i, label in enumerate(labels))  # fmt: skip
    return Statements("mine", texts, labels, None, "mine.csv", tuple(range(2, n + 2)))


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
    statements = Statements("mine", tuple("abcdefghij"), labels, None, "mine.csv", tuple(range(10)))
    assert text_baseline(statements).majority_accuracy == 0.5
    flipped = Statements("mine", tuple("abcdefghij"), np.array([1] * 6 + [0] * 4), None, "mine.csv", tuple(range(10)))
    assert text_baseline(flipped).majority_accuracy == 0


def test_test_rows_decide_no_feature():
    texts = [f"word{i % 7} and{i % 3}" for i in range(50)]
    train = np.arange(40)
    one = text_features(tuple(texts), train)
    other = text_features((*texts[:40], *(["unseen " * 9] * 10)), train)
    np.testing.assert_array_equal(one[:40], other[:40])


def test_features_are_capped_and_filled_up_to_a_common_size():
    texts = tuple(f"w{i} w{i + 1}" for i in range(3 * MOST_WORDS))
    features = text_features(texts, np.arange(len(texts)))
    assert features.shape[1] % FEATURE_BLOCK == 0
    assert MOST_WORDS < features.shape[1] < MOST_WORDS + 2 * FEATURE_BLOCK


def test_the_solver_gives_what_scikit_learn_gives():
    statements = made_up(lambda label: ("no", "yes", "so")[label + (np.random.default_rng(label).random() > 0.5)])
    features = text_features(statements.texts, np.arange(160))
    peer = LogisticRegression(tol=1e-9, max_iter=10_000).fit(features[:160], statements.labels[:160])
    expected = peer.score(features[160:], statements.labels[160:])
    within("text-only baseline against scikit-learn", abs(text_baseline(statements).text_accuracy - expected), 1e-3)


def test_the_table_s_rows_join_with_the_probe_s():
    statements = made_up(lambda label: "same")
    rows = text_baseline(statements).metrics(statements, [0, 3])
    assert {(row.layer, row.metric) for row in rows} == {
        (layer, metric) for layer in (0, 3) for metric in ("text_accuracy", "majority_accuracy")
    }
    assert {(row.dataset, row.protocol, row.n, row.seed) for row in rows} == {("mine", "paper", 40, 0)}
    assert len({row.value for row in rows if row.metric == "text_accuracy"}) == 1


@pytest.mark.real
def test_the_authors_sets_are_largely_told_by_their_texts(shared):
    started = time.process_time()
    found = {name: text_baseline(read_statements(name, shared / "data")).text_accuracy for name in BUILTIN}
    assert found["sst2"] > 0.98
    assert all(found[name] > 0.74 for name in ("toxigen", "confaide", "stereoset"))
    assert time.process_time() - started < 60
