"""One checkpoint's residuals → its metrics, vectors and projections.

Axes: L layers, U distinct statements, N rows, M shown rows, D width.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from jtrace.probing.information import Information, paper_information, paper_smoother
from jtrace.probing.layer_map import by_layer, place
from jtrace.probing.probes import ProbeScores, paper_probe
from jtrace.probing.records import HeldOut, Metric, Projection, check_finite
from jtrace.probing.vectors import KINDS, MASS_MEAN, class_distance
from jtrace.stats.sampling import evenly_spread

# Rows of a set whose activations are projected: as many points as a panel can show apart.
MOST_SHOWN = 400


@dataclass(frozen=True)
class SetTrace:
    """Results of one statement set at one checkpoint.

    Attributes:
        metrics: rows of the table; none where they are not asked for.
        vectors: by kind (`jtrace.probing.vectors.KINDS`), float32 [layer, width].
        distances: of the class means over the rows that vectors are made of, float32 [layer].
        held_out: scores of the test rows; None without metrics.
    """

    metrics: tuple[Metric, ...]
    vectors: Mapping[str, np.ndarray]
    distances: np.ndarray
    projection: Projection
    held_out: HeldOut | None


class _Rows(NamedTuple):
    """A statement set and its published split, as arrays."""

    members: Int[Array, " N"]
    labels: Float[Array, " N"]
    train: Int[Array, " Ntrain"]
    test: Int[Array, " Ntest"]
    leading: Bool[Array, " N"]
    shown: Int[Array, " M"]


class _Measured(NamedTuple):
    probe: ProbeScores
    information: Information


@jax.jit
def _input_smoother(residuals: Float[Array, "L U D"], rows: _Rows) -> Float[Array, "Ntrain Ntrain"]:
    """R_X of the first layer, on the standardised training rows."""
    return paper_smoother(standardise(residuals[0][rows.members].astype(jnp.float32))[rows.train])


# Three programs, so that what one computes does not depend, to the last digit, on whether the others are wanted.


def _measured_layer(
    residuals: Float[Array, "L U D"],
    layer: Int[Array, ""],
    shared: tuple[_Rows, Float[Array, "Ntrain Ntrain"]],
    _: None,
) -> _Measured:
    rows, smoother_x = shared
    z = standardise(residuals[layer][rows.members].astype(jnp.float32))
    train, train_labels = z[rows.train], rows.labels[rows.train]
    probe = paper_probe(train, train_labels, z[rows.test], rows.labels[rows.test])
    return _Measured(probe, paper_information(smoother_x, train, train_labels))


def _layer_vector(
    residuals: Float[Array, "L U D"], layer: Int[Array, ""], rows: _Rows, kind: str
) -> Float[Array, " D"]:
    raw = residuals[layer][rows.members].astype(jnp.float32)
    return KINDS[kind].vector(raw, rows.labels, rows.leading)


def _shown_layer(
    residuals: Float[Array, "L U D"], layer: Int[Array, ""], rows: _Rows, _: None
) -> tuple[Float[Array, ""], Float[Array, "M 2"]]:
    """The distance of the class means, and the shown rows on the principal plane."""
    raw = residuals[layer][rows.members].astype(jnp.float32)
    points = principal_plane(standardise(raw)[rows.shown], rows.labels[rows.shown])
    return class_distance(raw, rows.labels, rows.leading), points


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
    metrics: bool = True,
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
        metrics: whether probes and information are wanted beside vectors and projections.

    Raises:
        InputError: too few rows for the split, or a statistic that is not finite.
    """
    split = check_paper_rows(statements)
    shown = evenly_spread(len(statements), MOST_SHOWN)
    rows = place(_rows(statements, members, split, shown), layout)
    each = partial(by_layer, residuals=residuals, layers=layers, layout=layout)
    measured = None
    if metrics:
        shared = rows, _input_smoother(residuals, rows)
        measured = _stacked(each(_measured_layer, arguments=shared, progress=progress))
    distances, points = _stacked(each(_shown_layer, arguments=rows))
    vectors = {kind: np.stack([*each(_layer_vector, arguments=rows, options=kind)]) for kind in kinds}

    _check_vectors(statements.name, layers, vectors)
    projection = Projection(
        statements.name,
        statements.dimension,
        shown,
        statements.labels[shown],
        np.asarray(layers, np.int32),
        points,
    )
    table: tuple[Metric, ...] = ()
    held_out = None
    if measured is not None:
        stuck = [layer for layer, ok in zip(layers, measured.probe.converged, strict=True) if not ok]
        if stuck:
            raise InputError(not_at_optimum(statements.name, stuck))
        table = tuple(_metrics(statements, split, layers, measured, vectors[MASS_MEAN]))
        check_finite(table)
        held_out = _held_out(statements, split, layers, measured.probe)
    return SetTrace(table, vectors, distances, projection, held_out)


def _stacked(of_layers: Iterable[Any]) -> Any:
    """Results of the layers as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *of_layers)


def _rows(statements: Statements, members: np.ndarray, split: Split, shown: np.ndarray) -> _Rows:
    return _Rows(
        jnp.asarray(members),
        jnp.asarray(statements.labels, jnp.float32),
        jnp.asarray(split.train),
        jnp.asarray(split.test),
        jnp.asarray(_leading(statements)),
        jnp.asarray(shown),
    )


def _leading(statements: Statements) -> np.ndarray:
    """Rows that vectors are made of, bool [N]."""
    leading = np.zeros(len(statements), bool)
    leading[leading_rows(statements.labels, statements.vector_fraction, statements.source)] = True
    return leading


def _check_vectors(dataset: str, layers: Sequence[int], vectors: Mapping[str, np.ndarray]) -> None:
    for kind, by_layers in vectors.items():
        finite = np.isfinite(by_layers).all(axis=1)
        if not finite.all():
            raise InputError(
                f"{dataset}: the {kind} vector of layer {layers[int(np.argmin(finite))]} is not finite; the checkpoint "
                "is not traceable"
            )


def _held_out(statements: Statements, split: Split, layers: Sequence[int], probe: ProbeScores) -> HeldOut:
    """Scores of the test rows at the layer of the highest accuracy."""
    best = int(np.argmax(probe.accuracy))
    return HeldOut(
        statements.name,
        "paper",
        layers[best],
        np.asarray(split.test, np.int64),
        statements.labels[split.test],
        np.asarray(probe.scores[best]),
    )


def _metrics(
    statements: Statements,
    split: Split,
    layers: Sequence[int],
    measured: _Measured,
    vectors: Float[np.ndarray, "M D"],
) -> Iterator[Metric]:
    """Rows of the table, layer by layer; no AUROC where the test part has one class only.

    Args:
        measured: with a leading axis of layers.
        vectors: the published ones.
    """
    probe, information = measured
    metric = partial(Metric, statements.name, statements.dimension, protocol="paper")
    tested, trained, averaged = len(split.test), len(split.train), int(_leading(statements).sum())
    both_tested = len(np.unique(statements.labels[split.test])) == 2
    for at, layer in enumerate(layers):
        norm = np.linalg.norm(vectors[at].astype(np.float64))
        row = partial(metric, layer=layer)
        yield row(metric="probe_accuracy", value=float(probe.accuracy[at]), n=tested)
        if both_tested:
            yield row(metric="probe_auroc", value=float(probe.auroc[at]), n=tested)
        yield row(metric="mi_xt", value=float(information.xt[at]), n=trained)
        yield row(metric="mi_yt", value=float(information.yt[at]), n=trained)
        yield row(metric="vector_norm", value=float(norm), n=averaged)


def not_at_optimum(dataset: str, layers: Sequence[int]) -> str:
    """Words of the error for probes that were not solved: their numbers would depend on where the solver stopped."""
    return (
        f"{dataset}: the probes of layers {list(layers)} did not reach their optimum; look at these residuals "
        "(--keep_activations), or leave the layers out with --layers"
    )
