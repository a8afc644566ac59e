"""Steering vectors: directions of a concept, and controls. Axes: N rows, D width, L layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Bool, Float

from jtrace.kernels.gram import HIGHEST, centre_features
from jtrace.kernels.logistic import fit_logistic
from jtrace.kernels.pca import leading_eigenvectors
from jtrace.kernels.standardise import standardise

# Smallest share that a covariance is shrunk by: its condition stays below D / LEAST_SHRINKAGE, which float32 can solve.
LEAST_SHRINKAGE = 1e-3
MASS_MEAN = "mass_mean"


@jax.jit
def mass_mean_vector(
    x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]
) -> Float[Array, " D"]:
    """The published steering vector (arXiv 2402.19465, section 3): it points towards label 1, whatever 1 means.

    Args:
        x: raw residuals of one layer, not standardised.
        labels: 0 or 1.
        leading: the rows that the class means are taken over, of both labels; the projections' spread is that of all
            rows.

    Returns:
        The unit difference of the class means times the standard deviation of the projections on it; 0 where the
        means agree. All other kinds take the same arguments and are scaled the same way.
    """
    x = centre_features(x)
    one, zero = _class_means(x, labels, leading)
    return _spread_along(x, one - zero)


@jax.jit
def whitened_vector(
    x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]
) -> Float[Array, " D"]:
    """Σ⁻¹ (mean of label 1 − mean of label 0), Σ the covariance within the classes (arXiv 2310.06824).

    Fisher's discriminant: spread that both classes have is discounted. Features are standardised, as the probe's are,
    so that a few of large range do not decide how much all others are shrunk. Σ is shrunk towards its mean diagonal by
    the share of Ledoit and Wolf (2004), the best one in expected squared error: it needs no tuning, falls as rows are
    added, and makes Σ invertible where N < D.
    """
    z = standardise(x)
    one, zero = _class_means(z, labels, leading)
    within = jnp.where(leading[:, None], z - jnp.where(labels[:, None] > 0.5, one, zero), 0)
    factor = jsl.cho_factor(_shrunk_covariance(within, jnp.sum(leading)), lower=True)
    return _spread_along(centre_features(x), _of_raw_features(jsl.cho_solve(factor, one - zero), x))


@jax.jit
def probe_vector(x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]) -> Float[Array, " D"]:
    """Weights of the paper's probe (logistic, C = 1, standardised features), fitted to the leading rows.

    NaN where the fit has not converged.
    """
    fit = fit_logistic(standardise(x), labels, leading.astype(x.dtype))
    vector = _spread_along(centre_features(x), _of_raw_features(fit.weights, x))
    return jnp.where(fit.converged, vector, jnp.nan)


@jax.jit
def pca_vector(x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]) -> Float[Array, " D"]:
    """First principal component of the differences between pairs of rows (RepE, arXiv 2310.01405).

    The k-th leading row of label 1 pairs with the k-th of label 0. The differences are not centred: there each pair's
    order is random, which centres them at 0 and leaves their second moment as it is.
    """
    x = centre_features(x)
    one, zero = leading & (labels > 0.5), leading & (labels < 0.5)
    pairs = jnp.arange(x.shape[0] // 2)
    first, second = (jnp.argsort(~rows, stable=True)[: len(pairs)] for rows in (one, zero))
    exist = pairs < jnp.minimum(jnp.sum(one), jnp.sum(zero))
    component = _first_component(jnp.where(exist[:, None], x[first] - x[second], 0))
    mean_one, mean_zero = _class_means(x, labels, leading)
    return _spread_along(x, component * jnp.sign(jnp.dot(component, mean_one - mean_zero, precision=HIGHEST)))


@partial(jax.jit, static_argnames="seed")
def shuffled_vector(
    x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"], seed: int = 0
) -> Float[Array, " D"]:
    """A control: the mass-mean vector of labels that say nothing; see `shuffled_labels`."""
    return mass_mean_vector(x, shuffled_labels(labels, leading, seed), leading)


def shuffled_labels(labels: Float[Array, " N"], leading: Bool[Array, " N"], seed: int = 0) -> Float[Array, " N"]:
    """The labels of the leading rows in another order, the same for every layer and checkpoint; others stay."""
    drawn = np.random.default_rng(seed).random(labels.shape[0], np.float32)
    places = jnp.argsort(~leading, stable=True)
    taken = jnp.argsort(jnp.where(leading, jnp.asarray(drawn), jnp.inf), stable=True)
    return labels.at[places].set(labels[taken])


@jax.jit
def class_distance(x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]) -> Float[Array, ""]:
    """Length of the plain difference of class means, which other tools steer with; arguments as `mass_mean_vector`."""
    one, zero = _class_means(centre_features(x), labels, leading)
    return jnp.linalg.norm(one - zero)


def random_vector(vector: np.ndarray, seed: int) -> np.ndarray:
    """A control: in every layer a random direction of the vector's norm there, drawn for each layer by itself.

    Args:
        vector: [L, D].

    Returns:
        float32 [L, D]; the first layers do not depend on how many follow.
    """
    drawn = np.random.default_rng(seed).normal(size=vector.shape)
    norms = np.linalg.norm(vector.astype(np.float64), axis=1, keepdims=True)
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * norms).astype(np.float32)


@dataclass(frozen=True)
class VectorKind:
    """A way of making steering vectors: the function, and what a file says of it."""

    vector: Callable[..., Float[Array, " D"]]
    made: str


_SCALED = "normalised, times the std (ddof 1) of all rows' projections on it"
KINDS: Mapping[str, VectorKind] = {
    MASS_MEAN: VectorKind(mass_mean_vector, f"mean of label 1 minus mean of label 0, {_SCALED}"),
    "whitened": VectorKind(
        whitened_vector,
        f"inverse of the shrunk covariance within the labels, times mean of label 1 minus mean of label 0, {_SCALED}",
    ),
    "probe": VectorKind(probe_vector, f"weights of a logistic probe on standardised features, of raw ones, {_SCALED}"),
    "pca": VectorKind(
        pca_vector, f"first principal component of differences of pairs, label 1 minus label 0, {_SCALED}"
    ),
    "shuffled": VectorKind(shuffled_vector, f"control: labels shuffled (seed 0), then as {MASS_MEAN}, {_SCALED}"),
}


def _class_means(
    x: Float[Array, "N D"], labels: Float[Array, " N"], leading: Bool[Array, " N"]
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Means of label 1 and of label 0, as sums of centred rows: no large common offset to cancel."""
    one, zero = leading * labels, leading * (1 - labels)
    return jnp.sum(one[:, None] * x, axis=0) / jnp.sum(one), jnp.sum(zero[:, None] * x, axis=0) / jnp.sum(zero)


def _spread_along(x: Float[Array, "N D"], direction: Float[Array, " D"]) -> Float[Array, " D"]:
    """The unit direction times the std (ddof 1) of the centred rows' projections on it; 0 for no direction."""
    length = jnp.sqrt(jnp.sum(direction * direction))
    direction = jnp.where(length > 0, direction / jnp.where(length > 0, length, 1), 0)
    projections = jnp.sum(x * direction, axis=1)
    return direction * jnp.std(projections, ddof=1)


def _of_raw_features(weights: Float[Array, " D"], x: Float[Array, "N D"]) -> Float[Array, " D"]:
    """Weights of standardised features → of the features themselves; a feature that never varies has none."""
    std = jnp.std(centre_features(x), axis=0, ddof=1)
    return jnp.where(std > 0, weights / jnp.where(std > 0, std, 1), 0)


def _shrunk_covariance(within: Float[Array, "N D"], count: Array) -> Float[Array, "D D"]:
    """(1 − s) S + s m I: S of `count` centred rows (others 0), m its mean diagonal, s the share of Ledoit and Wolf."""
    width = within.shape[1]
    covariance = jnp.matmul(within.T, within, precision=HIGHEST) / count
    mean_variance = jnp.trace(covariance) / width
    square = jnp.sum(covariance * covariance)
    dispersion = square - width * mean_variance**2
    fourth = jnp.sum(jnp.sum(within * within, axis=1) ** 2) / count
    optimal = (fourth - square) / count / jnp.where(dispersion > 0, dispersion, 1)
    share = jnp.where(dispersion > 0, jnp.clip(optimal, LEAST_SHRINKAGE, 1), 1)
    # Where nothing varies within the classes, only the means tell.
    mean_variance = jnp.where(mean_variance > 0, mean_variance, 1)
    return (1 - share) * covariance + share * mean_variance * jnp.eye(width, dtype=within.dtype)


def _first_component(x: Float[Array, "K D"]) -> Float[Array, " D"]:
    """The first right singular vector, up to its length and sign."""
    if x.shape[0] < x.shape[1]:
        _, vectors = leading_eigenvectors(jnp.matmul(x, x.T, precision=HIGHEST))
        return jnp.matmul(vectors[:, 0], x, precision=HIGHEST)
    _, vectors = leading_eigenvectors(jnp.matmul(x.T, x, precision=HIGHEST))
    return vectors[:, 0]
