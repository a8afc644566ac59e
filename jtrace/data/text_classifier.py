"""Classifiers of bare texts, without a language model: by their look, words and characters.

Axes: N texts, F features.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from jtrace.data.splits import Split
from jtrace.data.text_features import SURFACE, surface_features

# Runs of symbols count as words, so that no text is without words.
WORD = r"\w+|[^\w\s]+"
# The features of each classifier. Without rows to choose on, the first is taken, at the first C.
CLASSIFIERS = (
    ("words",),
    ("words", "characters"),
    ("folded words", "folded characters"),
    ("surface",),
    ("surface", "folded words", "folded characters"),
)
STRENGTHS = (10.0, 1.0)  # C of scikit-learn, for features of about unit norm

Features = Mapping[str, csr_matrix]


def text_features(texts: Sequence[str]) -> Features:
    """Computes surface features, and counts of word 1-2-grams and character 2-5-grams, with case and `folded`.

    Each is sparse [N, F] and depends on one text only; weights that depend on training rows come later.
    """
    features = {"surface": csr_matrix(surface_features(texts))}
    for prefix, folded in (("", False), ("folded ", True)):
        words = CountVectorizer(ngram_range=(1, 2), token_pattern=WORD, lowercase=folded)
        characters = CountVectorizer(ngram_range=(2, 5), analyzer="char_wb", lowercase=folded)
        features[f"{prefix}words"] = words.fit_transform(texts)
        features[f"{prefix}characters"] = characters.fit_transform(texts)
    return features


def text_log_odds(features: Features, labels: np.ndarray, train: np.ndarray, inner: Sequence[Split]) -> np.ndarray:
    """Computes log-odds of label 1 of all N texts, by the classifier and C of the fewest errors on inner rows.

    Of equal ones, cross-entropy decides. Training rows of one label give certainty.

    Args:
        labels: 0 or 1, int [N].
        train: rows to fit on.
        inner: splits of the training rows to choose on.
    """
    candidates = list(itertools.product(CLASSIFIERS, STRENGTHS))
    errors, losses = np.zeros((2, len(candidates)))
    for split in inner:
        ready, signs = _weighted(features, split.train), 2.0 * labels[split.test] - 1
        for at, (names, strength) in enumerate(candidates):
            margins = signs * _log_odds(ready, names, labels, split.train, strength)[split.test]
            errors[at] += (margins <= 0).sum()
            losses[at] += np.logaddexp(0, -margins).sum()
    names, strength = candidates[np.lexsort((losses, errors))[0]]
    return _log_odds(_weighted(features, train, names), names, labels, train, strength)


def _weighted(features: Features, train: np.ndarray, names: Sequence[str] | None = None) -> Features:
    """Standardises surface features, and turns counts into TF-IDF, both by the training rows alone."""
    ready = {}
    for name in features if names is None else names:
        values = features[name]
        if name == "surface":
            scaled = StandardScaler().fit(values[train].toarray()).transform(values.toarray())
            ready[name] = csr_matrix(scaled / len(SURFACE) ** 0.5)
        else:
            seen = values[:, np.unique(values[train].indices)]
            ready[name] = TfidfTransformer(sublinear_tf=True).fit(seen[train]).transform(seen)
    return ready


def _log_odds(
    ready: Features, names: Sequence[str], labels: np.ndarray, train: np.ndarray, strength: float
) -> np.ndarray:
    if len(np.unique(labels[train])) < 2:
        return np.full(len(labels), np.inf if labels[train[0]] else -np.inf)
    values = hstack([ready[name] for name in names], format="csr")
    model = LogisticRegression(C=strength, solver="liblinear", tol=1e-2, max_iter=1000)
    return model.fit(values[train], labels[train]).decision_function(values)
