"""One checkpoint's residuals → its metrics, vectors and projections.

Axes: L layers, U distinct statements, N rows, M shown rows, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.data.splits import Split, leading_rows, prefix_split
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.kernels.pca import principal_plane
from jtrace.kernels.standardise import standardise
from jtrace.models.sharding import Layout
from jtrace.probing.information import paper_information, paper_smoother
from jtrace.probing.layer_map import by_layer, place
from jtrace.probing.probes import paper_probe
from jtrace.probing.records import Metric, Projection
from jtrace.probing.vectors import KINDS, MASS_MEAN, class_distance
from jtrace.stats.sampling import evenly_spread

PROTOCOLS = ("paper", "sound")
# Rows of a set whose activations are projected: as many points as a panel can show apart.
MOST_SHOWN = 400


@dataclass(frozen=True)
class SetTrace:
    """What one statement set yields at one checkpoint.

    Attributes:
        metrics: rows of the table.
        vectors: by kind (`jtrace.probing.vectors.KINDS`), float32 [layer, width].
        distances: of the class means over the rows that vectors are made of, float32 [layer].
    """

    metrics: tuple[Metric, ...]
    vectors: Mapping[str, np.ndarray]
    distances: np.ndarray
    projection: Projection


class _Rows(NamedTuple):
    """A statement set and its published split, as arrays."""

    members: Int[Array, " N"]
    labels: Float[Array, " N"]
    train: Int[Array, " Ntrain"]
    test: Int[Array, " Ntest"]
    leading: Bool[Array, " N"]
    shown: Int[Array, " M"]


class _LayerResult(NamedTuple):
    probe_accuracy: Float[Array, ""]
    probe_auroc: Float[Array, ""]
    mi_xt: Float[Array, ""]
    mi_yt: Float[Array, ""]
    converged: Bool[Array, ""]
    vectors: dict[str, Float[Array, " D"]]
    distance: Float[Array, ""]
    points: Float[Array, "M 2"]


@jax.jit
def _input_smoother(residuals: Float[Array, "L U D"], rows: _Rows) -> Float[Array, "Ntrain Ntrain"]:
    """R_X of the first layer, on the standardised training rows."""
    return paper_smoother(standardise(residuals[0][rows.members].astype(jnp.float32))[rows.train])


def _paper_layer(
    residuals: Float[Array, "L U D"],
    layer: Int[Array, ""],
    shared: tuple[_Rows, Float[Array, "Ntrain Ntrain"]],
    kinds: tuple[str, ...],
) -> _LayerResult:
    rows, smoother_x = shared
    raw = residuals[layer][rows.members].astype(jnp.float32)
    z = standardise(raw)
    train, train_labels = z[rows.train], rows.labels[rows.train]
    probe = paper_probe(train, train_labels, z[rows.test], rows.labels[rows.test])
    information = paper_information(smoother_x, train, train_labels)
    vectors = {kind: KINDS[kind].vector(raw, rows.labels, rows.leading) for kind in kinds}
    distance = class_distance(raw, rows.labels, rows.leading)
    points = principal_plane(z[rows.shown], rows.labels[rows.shown])
    return _LayerResult(
        probe.accuracy, probe.auroc, information.xt, information.yt, probe.converged, vectors, distance, points
    )


def check_paper_rows(statements: Statements) -> Split:
    """The published split of a set.

    Raises:
        InputError: too few rows, or one class only, in the training, test or vector part.
    """
    leading_rows(statements.labels, statements.vector_fraction, statements.source)
    return prefix_split(statements.labels, name=statements.source)


def paper_trace(
    residuals: Float[Array, "L U D"],
    members: Int[np.ndarray, " N"],
    statements: Statements,
    layers: Sequence[int],
    progress: str | None = None,
    kinds: tuple[str, ...] = (MASS_MEAN,),
    layout: Layout | None = None,
) -> SetTrace:
    """The published procedure on one statement set (protocol `paper` of the design; arXiv 2402.19465).

    Args:
        residuals: of every distinct statement, layer 0 included: it is the X of I(X;T).
        members: which distinct statement each row of the set is.
        layers: which layers to report.
        progress: label of a progress bar; none is shown if None.
        kinds: of steering vectors (`jtrace.probing.vectors.KINDS`); the published one, whose norm is reported, is
            among them.
        layout: the mesh that the residuals are whole on every device of: layers are shared out over these, and all of
            its processes call this with the same arguments. None for one device.

    Raises:
        InputError: too few rows for the split, or a statistic that is not finite.
    """
    split = check_paper_rows(statements)
    leading = np.zeros(len(statements), bool)
    leading[leading_rows(statements.labels, statements.vector_fraction, statements.source)] = True
    shown = evenly_spread(len(statements), MOST_SHOWN)
    rows = _Rows(
        jnp.asarray(members),
        jnp.asarray(statements.labels, jnp.float32),
        jnp.asarray(split.train),
        jnp.asarray(split.test),
        jnp.asarray(leading),
        jnp.asarray(shown),
    )
    rows = place(rows, layout)
    shared = rows, _input_smoother(residuals, rows)
    results = by_layer(_paper_layer, residuals, layers, shared, kinds, layout, progress)
    found = jax.tree.map(lambda *leaves: np.stack(leaves), *results)

    stuck = [layer for layer, ok in zip(layers, found.converged, strict=True) if not ok]
    if stuck:
        raise InputError(not_at_optimum(statements.name, stuck))
    for kind, vectors in found.vectors.items():
        if not np.isfinite(vectors).all():
            layer = layers[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
            raise InputError(
                f"{statements.name}: the {kind} vector of layer {layer} is not finite; the checkpoint is not traceable"
            )
    both_tested = len(np.unique(statements.labels[split.test])) == 2
    metric = partial(Metric, statements.name, statements.dimension, protocol="paper")
    table: list[Metric] = []
    for at, layer in enumerate(layers):
        norm = float(np.linalg.norm(found.vectors[MASS_MEAN][at].astype(np.float64)))
        for name, value, n in (
            ("probe_accuracy", found.probe_accuracy[at], len(split.test)),
            ("probe_auroc", found.probe_auroc[at], len(split.test)),
            ("mi_xt", found.mi_xt[at], len(split.train)),
            ("mi_yt", found.mi_yt[at], len(split.train)),
            ("vector_norm", norm, int(leading.sum())),
        ):
            if name == "probe_auroc" and not both_tested:
                continue
            if not np.isfinite(value):
                raise InputError(
                    f"{statements.name}: {name} of layer {layer} is {value}; the checkpoint is not traceable"
                )
            table.append(metric(layer=layer, metric=name, value=float(value), n=n))
    projection = Projection(
        statements.name,
        statements.dimension,
        shown,
        statements.labels[shown],
        np.asarray(layers, np.int32),
        found.points,
    )
    return SetTrace(tuple(table), found.vectors, found.distance, projection)


def not_at_optimum(dataset: str, layers: Sequence[int]) -> str:
    """Words of the error for probes that were not solved: their numbers would depend on where the solver stopped."""
    return (
        f"{dataset}: the probes of layers {list(layers)} did not reach their optimum; look at these residuals "
        "(--keep_activations), or leave the layers out with --layers"
    )
