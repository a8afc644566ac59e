"""Probe scores against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

from jtrace.probing.probes import accuracy, auroc, paper_probe


@pytest.mark.parametrize("decimals", [8, 0])
def test_scores_equal_sklearn_with_and_without_ties(decimals):
    random = np.random.default_rng(0)
    labels = (random.random(500) < 0.3).astype(np.float32)
    scores = np.round(random.normal(size=500) + labels, decimals).astype(np.float32)
    assert auroc(jnp.asarray(scores), jnp.asarray(labels)) == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert accuracy(jnp.asarray(scores), jnp.asarray(labels)) == pytest.approx(accuracy_score(labels, scores > 0))


@pytest.mark.parametrize(("n", "d"), [(300, 30), (60, 150)])
def test_the_paper_probe_decides_as_sklearn_does(n, d):
    random = np.random.default_rng(1)
    labels = (random.random(n + 1000) < 0.5).astype(np.float32)
    x = (random.normal(size=(n + 1000, d)) + 0.3 * labels[:, None]).astype(np.float32)
    found = paper_probe(*map(jnp.asarray, (x[:n], labels[:n], x[n:], labels[n:])))
    exact = LogisticRegression(tol=1e-9, max_iter=100_000).fit(x[:n].astype(np.float64), labels[:n])
    assert found.converged
    assert found.accuracy == pytest.approx(exact.score(x[n:], labels[n:]), abs=1e-3)
    assert found.auroc == pytest.approx(roc_auc_score(labels[n:], exact.decision_function(x[n:])), abs=1e-4)
