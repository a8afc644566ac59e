"""The published probe against scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from jtrace.probing.probes import paper_probe
from tests.cases import few


@pytest.mark.parametrize(("n", "d"), few([(300, 30), (60, 150)]))
def test_the_paper_probe_decides_as_sklearn_does(n, d):
    random = np.random.default_rng(1)
    labels = (random.random(n + 1000) < 0.5).astype(np.float32)
    x = (random.normal(size=(n + 1000, d)) + 0.3 * labels[:, None]).astype(np.float32)
    found = paper_probe(*map(jnp.asarray, (x[:n], labels[:n], x[n:], labels[n:])))
    exact = LogisticRegression(tol=1e-9, max_iter=100_000).fit(x[:n].astype(np.float64), labels[:n])
    assert found.converged
    assert found.accuracy == pytest.approx(exact.score(x[n:], labels[n:]), abs=1e-3)
    assert found.auroc == pytest.approx(roc_auc_score(labels[n:], exact.decision_function(x[n:])), abs=1e-4)
