"""A classifier that sees the bare texts and no model: the line to hold every probe against.

Axes: N rows, R repeats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jtrace.data.groups import groups_of
from jtrace.data.splits import Fold, Split, prefix_split
from jtrace.data.statements import Statements
from jtrace.data.text_classifier import text_features, text_log_odds
from jtrace.probing.records import Metric
from jtrace.runtime.progress import Bar
from jtrace.stats.bootstrap import effective_groups
from jtrace.stats.heldout_metrics import is_right

# Of the training rows of the published split, every fifth of each label chooses the classifier.
HOLD_OUT_EVERY = 5


@dataclass(frozen=True)
class TextBaseline:
    """Scores on the test rows of the published split, without any model.

    Attributes:
        text_accuracy: of the classifier of `jtrace.data.text_classifier` that inner rows favour.
        majority_accuracy: of always guessing the label that most training rows have.
        effective_groups: of the test rows.
        n: test rows.
    """

    text_accuracy: float
    majority_accuracy: float
    effective_groups: float
    n: int

    def metrics(self, statements: Statements, layers: Iterable[int]) -> list[Metric]:
        """Rows of a metrics table: the same values for every layer, so that they join with a probe's row by row."""
        return [
            Metric(statements.name, statements.dimension, layer, "paper", name, getattr(self, name), self.n)
            for layer in layers
            for name in ("text_accuracy", "majority_accuracy", "effective_groups")
        ]


def text_baseline(statements: Statements) -> TextBaseline:
    """Fit on the training rows of the published split, score on its test rows.

    Raises:
        InputError: too few rows for the split.
    """
    labels = statements.labels
    split = prefix_split(labels, name=statements.source)
    inner = _every_fifth(labels, split.train)
    scores = text_log_odds(text_features(statements.texts), labels, split.train, [inner])[split.test]
    tested = labels[split.test]
    majority = 2 * labels[split.train].sum() > len(split.train)
    return TextBaseline(
        text_accuracy=float(np.mean(is_right(scores, tested))),
        majority_accuracy=float(np.mean(tested == majority)),
        effective_groups=effective_groups(np.bincount(groups_of(statements)[split.test])),
        n=len(split.test),
    )


def text_scores(statements: Statements, folds: Sequence[Fold]) -> Float[np.ndarray, "R N"]:
    """Held-out log-odds of label 1 of each row by a classifier of the bare texts, float32, for each repeat.

    Which classifier, and its C, is chosen on the inner rows of each fold, as for a probe of protocol `sound`.
    """
    features = text_features(statements.texts)
    scores = np.zeros((folds[-1].repeat + 1, len(statements)), np.float32)
    for fold in Bar(folds, f"{statements.name}, texts alone", unit=" folds"):
        log_odds = text_log_odds(features, statements.labels, fold.train, fold.inner)
        scores[fold.repeat, fold.test] = log_odds[fold.test]
    return scores


def _every_fifth(labels: np.ndarray, train: np.ndarray) -> Split:
    """Every fifth of the training rows of each label, from the second on, and the others."""
    held_out = np.zeros(len(train), bool)
    for label in (0, 1):
        held_out[np.flatnonzero(labels[train] == label)[1::HOLD_OUT_EVERY]] = True
    return Split(train[~held_out], train[held_out])
