"""Mutual information as the paper estimates it: normalised HSIC between input, representation and label.

X is the first layer's residual, T the residual of the layer at hand, Y the label. Axes: N rows, D width.
"""

from typing import NamedTuple

from jaxtyping import Array, Float

from jtrace.kernels.gram import gaussian_gram
from jtrace.kernels.hsic import nhsic, nhsic_labels, smoother

# The published settings (arXiv 2402.19465): bandwidth σ of the Gaussian kernel, and ε of λ = εn.
PAPER_BANDWIDTH = 50.0
PAPER_EPSILON = 1e-5


class Information(NamedTuple):
    """I(X;T) and I(Y;T), as traces (no unit; at most the number of rows)."""

    xt: Float[Array, ""]
    yt: Float[Array, ""]


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
