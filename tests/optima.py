"""A logistic fit beside the optimum of the same problem in float64."""

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.bars import within


def objective(x, labels, c, weights, intercept):
    margins = x @ weights + intercept
    return 0.5 * weights @ weights + c * np.sum(np.logaddexp(0, margins) - labels * margins)


def optimum(x, labels, c, start):
    """Weights and intercept by Newton's method in float64.

    It begins at the fit that is asked about, which saves most of its steps. Its own gradient g says that it ends at the
    optimum: the penalty makes the objective strongly convex, so that it is at most |g|² / 2 above its least.
    """
    x = x.astype(np.float64)
    model = LogisticRegression(C=c, tol=1e-10, solver="newton-cholesky", max_iter=1000, warm_start=True)
    model.coef_, model.intercept_ = start[0][None].copy(), np.array([start[1]])
    model.fit(x, labels)
    weights, intercept = model.coef_[0], model.intercept_[0]
    errors = c * (expit(x @ weights + intercept) - labels)
    slope = np.append(weights + x.T @ errors, errors.sum())
    assert slope @ slope / 2 < 1e-8 * objective(x, labels, c, weights, intercept)
    return weights, intercept


def beside_optimum(x, labels, c, fit, unseen):
    """Share of the objective above the optimum's, decisions on unseen rows, and the optimum's scores there."""
    fitted = np.asarray(fit.weights, np.float64), float(fit.intercept)
    weights, intercept = optimum(x, labels, c, fitted)
    least = objective(x.astype(np.float64), labels, c, weights, intercept)
    excess = objective(x.astype(np.float64), labels, c, *fitted) / least - 1
    return excess, unseen @ fitted[0] + fitted[1], unseen @ weights + intercept


def at_optimum(what, x, labels, c, fit, unseen):
    """Assert the design's bars for one fit: it says that it has converged, and it has."""
    assert fit.converged
    excess, scores, exact = beside_optimum(x, labels, c, fit, unseen)
    within(f"probe, {what}: objective above the optimum's", excess, 1e-6)
    within(f"probe, {what}: decisions other than the optimum's", np.mean((scores > 0) != (exact > 0)), 1e-3)
    sides = exact > np.median(exact)
    within(f"probe, {what}: AUROC beside the optimum's", abs(roc_auc_score(sides, scores) - 1), 1e-3)
