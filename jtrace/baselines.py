"""What a classifier reaches that sees the bare texts and no model: the line to hold every probe against.

Axes: N training rows, M test rows, F features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jtrace.cross_validation import fold_probe, fold_rows, held_out_scores
from jtrace.data.splits import Fold, prefix_split
from jtrace.data.statements import Statements
from jtrace.data.surface import surface_features, word_presence
from jtrace.kernels.logistic import decision, fit_logistic
from jtrace.probes import accuracy
from jtrace.progress import Bar
from jtrace.trace import Metric

# The most frequent words alone: a thousand more gain a point or two of accuracy on the authors' sets, for many times
# the work. Words of a single training row say nothing of another row.
MOST_WORDS, FEWEST_ROWS = 1000, 2
# Features are filled up with zeros to a multiple of this, so that similar sets share one compilation.
FEATURE_BLOCK = 256


@dataclass(frozen=True)
class TextBaseline:
    """Scores on the test rows of the published split, without any model.

    Attributes:
        text_accuracy: of a ridge-logistic classifier (C = 1, as the probes have) on a bag of words and `SURFACE`.
        majority_accuracy: of always guessing the label that most training rows have.
        n: test rows.
    """

    text_accuracy: float
    majority_accuracy: float
    n: int

    def metrics(self, statements: Statements, layers: Iterable[int]) -> list[Metric]:
        """Rows of a metrics table: the same values for every layer, so that they join with a probe's row by row."""
        return [
            Metric(statements.name, statements.dimension, layer, "paper", name, getattr(self, name), self.n)
            for layer in layers
            for name in ("text_accuracy", "majority_accuracy")
        ]


def text_baseline(statements: Statements) -> TextBaseline:
    """Fit on the training rows of the published split, score on its test rows.

    Raises:
        InputError: too few rows for the split.
    """
    split = prefix_split(statements.labels, name=statements.source)
    features = jnp.asarray(text_features(statements.texts, split.train))
    labels = jnp.asarray(statements.labels, jnp.float32)
    text_accuracy = _score(features[split.train], labels[split.train], features[split.test], labels[split.test])
    tested = statements.labels[split.test]
    majority = 2 * statements.labels[split.train].sum() > len(split.train)
    return TextBaseline(float(text_accuracy), float(np.mean(tested == majority)), len(split.test))


def text_scores(statements: Statements, folds: Sequence[Fold]) -> Float[np.ndarray, "R N"]:
    """Held-out log-odds of label 1 of each row by a classifier of the bare texts, float32, for each repeat.

    Words are chosen, and C too, on the training rows of each fold, as for a probe of protocol `sound`.
    """
    rows = fold_rows(folds, len(statements))
    labels = jnp.asarray(statements.labels, jnp.float32)
    found = []
    for at, fold in enumerate(Bar(folds, f"{statements.name}, texts alone", unit=" folds")):
        features = jnp.asarray(text_features(statements.texts, fold.train))
        found.append(_fold_scores(features, labels, rows.train[at], rows.weights[at], rows.held_out[at]))
    return np.asarray(held_out_scores(jnp.stack(found), rows.fold_of))


def text_features(texts: tuple[str, ...], train: np.ndarray) -> np.ndarray:
    """Surface features, standardised over the training rows, then 0 or 1 for each frequent word: float32 [rows, F].

    Args:
        train: the rows that decide which words are frequent; the last surface feature is the share of other words.
    """
    rows, words = word_presence(texts)
    seen = np.bincount(words[np.isin(rows, train)], minlength=words.max() + 1)
    frequent = np.argsort(-seen, kind="stable")[:MOST_WORDS]
    frequent = frequent[seen[frequent] >= FEWEST_ROWS]
    column = np.full(len(seen), -1)
    column[frequent] = np.arange(len(frequent))
    known = column[words] >= 0
    bag = np.zeros((len(texts), len(frequent)))
    bag[rows[known], column[words[known]]] = 1

    rare = 1 - bag.sum(axis=1) / np.bincount(rows, minlength=len(texts))
    surface = np.column_stack([surface_features(texts), rare])
    spread = surface[train].std(axis=0)
    surface = (surface - surface[train].mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    features = np.concatenate([surface, bag], axis=1)
    return np.pad(features, ((0, 0), (0, -features.shape[1] % FEATURE_BLOCK))).astype(np.float32)


@jax.jit
def _fold_scores(
    features: Float[Array, "N F"],
    labels: Float[Array, " N"],
    train: Int[Array, " n"],
    weights: Float[Array, " n"],
    held_out: Float[Array, "J n"],
) -> Float[Array, " N"]:
    return fold_probe(features, labels, labels, train, weights, held_out).scores


@jax.jit
def _score(
    train: Float[Array, "N F"],
    train_labels: Float[Array, " N"],
    test: Float[Array, "M F"],
    test_labels: Float[Array, " M"],
) -> Float[Array, ""]:
    return accuracy(decision(test, fit_logistic(train, train_labels)), test_labels)
