"""A logistic fit beside the optimum of the same problem in float64."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.bars import within


def objective(x, labels, c, weights, intercept):
    margins = x @ weights + intercept
    return 0.5 * weights @ weights + c * np.sum(np.logaddexp(0, margins) - labels * margins)


def optimum(x, labels, c):
    """Weights and intercept by Newton's method in float64."""
    fit = LogisticRegression(C=c, tol=1e-10, solver="newton-cholesky", max_iter=1000).fit(x.astype(np.float64), labels)
    return fit.coef_[0], fit.intercept_[0]


def beside_optimum(x, labels, c, fit, unseen):
    """Share of the objective above the optimum's, decisions on unseen rows, and the optimum's scores there."""
    weights, intercept = optimum(x, labels, c)
    least = objective(x.astype(np.float64), labels, c, weights, intercept)
    found = np.asarray(fit.weights, np.float64), float(fit.intercept)
    excess = objective(x.astype(np.float64), labels, c, *found) / least - 1
    return excess, unseen @ found[0] + found[1], unseen @ weights + intercept


def at_optimum(what, x, labels, c, fit, unseen):
    """Assert the design's bars for one fit: it says that it has converged, and it has."""
    assert fit.converged
    excess, scores, exact = beside_optimum(x, labels, c, fit, unseen)
    within(f"probe, {what}: objective above the optimum's", excess, 1e-6)
    within(f"probe, {what}: decisions other than the optimum's", np.mean((scores > 0) != (exact > 0)), 1e-3)
    sides = exact > np.median(exact)
    within(f"probe, {what}: AUROC beside the optimum's", abs(roc_auc_score(sides, scores) - 1), 1e-3)
