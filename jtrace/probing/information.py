"""Mutual information as normalised HSIC between input, representation and label, by either protocol.

X is the first layer's residual, T the residual of the layer at hand, Y the label. `paper` has one fixed bandwidth and
ridge. `sound` takes the bandwidth from the median heuristic and ties the ridge to the kernel, so that layers of any
scale are smoothed alike, and sets each estimate against permuted rows and half samples. Its rows must be independent,
as one per group is: only then are permutations a valid null. Normalised HSIC is biased upwards, by up to
tr R_A tr R_B / (m − 1), and so compares only between equal m; unbiased HSIC and debiased CKA compare between any.
Axes: N or m rows, D width, P permutations, H half samples of h = m // 2 rows.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jtrace.errors import InputError
from jtrace.kernels.gram import centre, gaussian_gram, median_bandwidth
from jtrace.kernels.hsic import (
    debiased_cka,
    nhsic,
    nhsic_labels,
    permuted_nhsic,
    smoother,
    tied_nhsic_labels,
    tied_smoother,
    unbiased_hsic,
)
from jtrace.stats.quantiles import student_95

# The published settings (arXiv 2402.19465): bandwidth σ of the Gaussian kernel, and ε of λ = εn.
PAPER_BANDWIDTH = 50.0
PAPER_EPSILON = 1e-5
# λ as a share of tr K. The published settings have it too: at σ = 50, tr K is 4e-4 n and λ is 1e-5 n.
RIDGE_SHARE = 1 / 40
# With σ = 1 labels 0 and 1 are exp(−½) apart, as the median pair of rows is.
LABEL_BANDWIDTH = 1.0
# Unbiased HSIC divides by n − 3.
FEWEST_ROWS = 4
# Equal estimates of different orders differ by float32's rounding.
TIE = 1e-5


class Information(NamedTuple):
    """I(X;T) and I(Y;T), as traces (no unit; at most the number of rows)."""

    xt: Float[Array, ""]
    yt: Float[Array, ""]


class InputSide(NamedTuple):
    """Share of the input X in the estimates of every layer: its kernel, R of all rows and R of each half sample."""

    gram: Float[Array, "m m"]
    smoother: Float[Array, "m m"]
    half_smoothers: Float[Array, "H h h"]


class SoundInformation(NamedTuple):
    """I(X;T) and I(Y;T) of one layer by protocol `sound`, float32.

    Attributes:
        xt, yt: normalised HSIC, at least 0 and below 1 / RIDGE_SHARE.
        xt_null, yt_null: the same after the rows of X, or the labels, were permuted.
        xt_halves, yt_halves: the same on half samples.
        hsic_xt, hsic_yt: unbiased HSIC, on average 0 under independence.
        cka_xt, cka_yt: debiased CKA, in [−1, 1].
    """

    xt: Float[Array, ""]
    yt: Float[Array, ""]
    xt_null: Float[Array, " P"]
    yt_null: Float[Array, " P"]
    xt_halves: Float[Array, " H"]
    yt_halves: Float[Array, " H"]
    hsic_xt: Float[Array, ""]
    hsic_yt: Float[Array, ""]
    cka_xt: Float[Array, ""]
    cka_yt: Float[Array, ""]


class Dependence(NamedTuple):
    """An estimate at m rows with its 95 % interval, beside its permutation null.

    Attributes:
        null_mean, null_low, null_high: the null's mean, 2.5 % and 97.5 % points (a band, not an interval of the mean).
        excess, excess_low, excess_high: the estimate less the null's mean, with its 95 % interval.
        p: one-sided permutation p-value, at least 1 / (P + 1).
    """

    value: float
    ci_low: float
    ci_high: float
    null_mean: float
    null_low: float
    null_high: float
    excess: float
    excess_low: float
    excess_high: float
    p: float


def paper_smoother(z: Float[Array, "N D"]) -> Float[Array, "N N"]:
    """R of standardised features; that of the first layer is computed once and serves all."""
    return smoother(gaussian_gram(z, PAPER_BANDWIDTH), PAPER_EPSILON)


def paper_information(
    smoother_x: Float[Array, "N N"], z: Float[Array, "N D"], labels: Float[Array, " N"]
) -> Information:
    """Both estimates for one layer's standardised training rows."""
    smoother_t = paper_smoother(z)
    return Information(
        xt=nhsic(smoother_x, smoother_t),
        yt=nhsic_labels(smoother_t, labels, PAPER_BANDWIDTH, PAPER_EPSILON),
    )


def permutations(rows: int, count: int, seed: int) -> np.ndarray:
    """Random orders of `rows` rows, one seed one answer: int32 [count, rows]."""
    orders = np.tile(np.arange(rows, dtype=np.int32), (count, 1))
    return np.random.default_rng(seed).permuted(orders, axis=1)


def half_samples(rows: int, count: int, seed: int) -> np.ndarray:
    """Random halves of `rows` rows, without replacement: int32 [count, rows // 2]."""
    return permutations(rows, count, seed)[:, : rows // 2]


def sound_input(z: Float[Array, "m D"], halves: Int[Array, "H h"]) -> InputSide:
    """The input's side of `sound_information`: once per checkpoint and set.

    Args:
        z: the first layer's standardised rows, one per group, in random order.

    Raises:
        InputError: fewer than `FEWEST_ROWS` rows.
    """
    if z.shape[0] < FEWEST_ROWS:
        raise InputError(
            f"protocol sound: information of {z.shape[0]} rows; give at least {FEWEST_ROWS}, one per group"
        )
    gram = gaussian_gram(z, median_bandwidth(z))
    half_smoothers = jax.lax.map(lambda half: _half_smoother(gram, half), halves)
    return InputSide(gram, tied_smoother(gram, RIDGE_SHARE), half_smoothers)


def sound_information(
    input_side: InputSide,
    z: Float[Array, "m D"],
    labels: Float[Array, " m"],
    permutations: Int[Array, "P m"],
    halves: Int[Array, "H h"],
) -> SoundInformation:
    """All estimates for one layer. Features that never vary, or labels of one class, share nothing: 0 throughout.

    Args:
        z: the layer's standardised rows, the same as those of `input_side`.
        labels: 0 or 1, as many of each, so that different sets are alike in what can be known.
        permutations: as the function `permutations` returns them.
        halves: as given to `sound_input`.
    """
    gram = gaussian_gram(z, median_bandwidth(z))
    label_gram = gaussian_gram(labels[:, None], LABEL_BANDWIDTH)
    smoother_t = tied_smoother(gram, RIDGE_SHARE)

    def on_half(side: tuple[Array, Array]) -> tuple[Array, Array]:
        half, half_smoother_x = side
        half_smoother_t = _half_smoother(gram, half)
        yt = tied_nhsic_labels(half_smoother_t, labels[half][None], RIDGE_SHARE)[0]
        return nhsic(half_smoother_x, half_smoother_t), yt

    xt_halves, yt_halves = jax.lax.map(on_half, (halves, input_side.half_smoothers))
    return SoundInformation(
        xt=nhsic(input_side.smoother, smoother_t),
        yt=tied_nhsic_labels(smoother_t, labels[None], RIDGE_SHARE)[0],
        xt_null=permuted_nhsic(smoother_t, input_side.smoother, permutations),
        yt_null=tied_nhsic_labels(smoother_t, labels[permutations], RIDGE_SHARE),
        xt_halves=xt_halves,
        yt_halves=yt_halves,
        hsic_xt=unbiased_hsic(input_side.gram, gram),
        hsic_yt=unbiased_hsic(label_gram, gram),
        cka_xt=debiased_cka(input_side.gram, gram),
        cka_yt=debiased_cka(label_gram, gram),
    )


def summarise(value: float | np.ndarray, null: np.ndarray, halves: np.ndarray) -> Dependence:
    """An estimate's interval, null and p-value.

    The standard error is the standard deviation over random half samples, a delete-d jackknife with d = m / 2 whose
    factor (m − d) / d is 1 (Shao and Wu 1989), and the interval Student's with H − 1 degrees of freedom. It is of the
    estimate's expectation at m rows, its bias included. p = (1 + #{null ≥ value}) / (P + 1) (Phipson and Smyth 2010).

    Args:
        value: the estimate on all rows, one number.
        null: of permuted rows, float [P].
        halves: of half samples, float [H], H ≥ 6.
    """
    value, null = float(value), np.asarray(null, np.float64)
    margin = student_95(len(halves) - 1) * float(np.std(halves, ddof=1, dtype=np.float64))
    null_mean = float(np.mean(null))
    null_low, null_high = (float(point) for point in np.quantile(null, (0.025, 0.975)))
    at_least = np.count_nonzero(null >= value - TIE * abs(value))
    excess = value - null_mean
    return Dependence(
        value=value,
        ci_low=value - margin,
        ci_high=value + margin,
        null_mean=null_mean,
        null_low=null_low,
        null_high=null_high,
        excess=excess,
        excess_low=excess - margin,
        excess_high=excess + margin,
        p=(1 + at_least) / (len(null) + 1),
    )


def _half_smoother(gram: Float[Array, "m m"], half: Int[Array, " h"]) -> Float[Array, "h h"]:
    """R of the half's rows at the bandwidth of all rows: a part of a centred matrix is not centred."""
    return tied_smoother(centre(gram[half][:, half]), RIDGE_SHARE)
