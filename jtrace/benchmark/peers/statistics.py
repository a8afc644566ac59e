"""The published statistics on the host: scikit-learn's probe, and HSIC by float32 torch.inverse.

Axes: L layers, N statements, D width. Activations are float32 [L, N, D], labels 0 or 1 [N]; the first 80 % train.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

TRAINING_SHARE = 0.8


def published_statistics(activations: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Computes probes and information of every layer; the first layer is the X of I(X;T)."""
    information = published_information(activations, labels, activations[0])
    return {"probe_accuracy": published_probes(activations, labels)} | information


def published_probes(activations: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Computes the test accuracy of scikit-learn's probe with its default 100 iterations, float64 [L]."""
    n_train, accuracy = int(TRAINING_SHARE * len(labels)), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for z in map(_standardised, activations):
            probe = LogisticRegression().fit(z[:n_train], labels[:n_train])
            accuracy.append(probe.score(z[n_train:], labels[n_train:]))
    return np.array(accuracy)


def published_information(activations: np.ndarray, labels: np.ndarray, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Computes I(X;T) and I(Y;T), float64 [L] each.

    Args:
        inputs: the first layer's activations, [N, D].
    """
    n_train = int(TRAINING_SHARE * len(labels))
    x = torch.from_numpy(_standardised(inputs)[:n_train])
    y = torch.from_numpy(labels[:n_train, None].astype(np.float32))
    layers = [torch.from_numpy(_standardised(raw)[:n_train]) for raw in activations]
    return {
        "mi_xt": np.array([_nhsic(x, t) for t in layers]),
        "mi_yt": np.array([_nhsic(y, t) for t in layers]),
    }


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0, ddof=1)


def _nhsic(a: torch.Tensor, b: torch.Tensor, bandwidth: float = 50.0, epsilon: float = 1e-5) -> float:
    def smoother(x: torch.Tensor) -> torch.Tensor:
        n, d = x.shape
        kernel = torch.exp(-(torch.cdist(x, x) ** 2) / (2 * bandwidth**2 * d))
        centred = kernel @ (torch.eye(n) - 1 / n)
        return centred @ torch.inverse(centred + epsilon * n * torch.eye(n))

    return float((smoother(a) * smoother(b).T).sum())
