"""Protocol `sound`: one checkpoint's residuals → metrics that a careful reviewer believes.

Every row is scored by a probe that has not seen its group, beside a classifier of the bare texts, the same architecture
re-initialised and a control task, all on the same folds and the same bootstrap draws; information stands beside its
permutation null. Axes: L layers, U distinct statements, N rows, R repeats, I initialisations, F fits, B weightings (the
first are ones, the others bootstrap draws), K bins, m independent rows, P permutations, H half samples, M reported
layers, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jtrace.errors import InputError
from jtrace.kernels.standardise import standardise
from jtrace.models.sharding import Layout
from jtrace.probing.cross_validation import FoldRows, cross_validate, fold_rows, held_out_scores
from jtrace.probing.information import (
    InputSide,
    half_samples,
    permutations,
    sound_information,
    sound_input,
)
from jtrace.probing.layer_map import by_layer, place
from jtrace.probing.paper import not_at_optimum
from jtrace.probing.records import HeldOut, Metric, check_finite
from jtrace.probing.sound_metrics import (
    COIN,
    LayerResult,
    between_initialisations,
    chosen_layer_metrics,
    layer_metrics,
    model_free_baseline,
    with_ones,
)
from jtrace.probing.sound_set import SoundSet
from jtrace.stats.bootstrap import row_weights
from jtrace.stats.calibration import calibration_gaps
from jtrace.stats.heldout_metrics import accuracy, auroc, label_entropy, log_loss

HALVES = 16


class _ProbeRows(NamedTuple):
    members: Int[Array, " N"]
    labels: Float[Array, " N"]
    control: Float[Array, "R N"]
    recurs: Float[Array, " N"]
    folds: FoldRows


class _Arrays(NamedTuple):
    """Arrays that the layers of a set share.

    Attributes:
        weights: of rows, ones first.
        line: accuracy of the better of the text-only classifier, guessing the larger class and a coin.
        random_init: scores of the re-initialised architecture's probes, initialisations as if they were repeats.
    """

    probe: _ProbeRows
    weights: Float[Array, "B N"]
    line: Float[Array, " B"]
    random_init: Float[Array, "L IR N"]
    independent: Int[Array, " m"]
    permutations: Int[Array, "P m"]
    halves: Int[Array, "H h"]
    input_side: InputSide


@dataclass(frozen=True)
class Probes:
    """The fitted probes of a set.

    Attributes:
        weights: for standardised features, float32 [F, L, D].
        intercepts: float32 [F, L].
        means, scales: of the features over the training rows, float32 [F, L, D].
        fold_of: which fold of a repeat holds out each row, int32 [R, N].
    """

    weights: np.ndarray
    intercepts: np.ndarray
    means: np.ndarray
    scales: np.ndarray
    fold_of: np.ndarray


@dataclass(frozen=True)
class SoundTrace:
    """Metrics, probes and held-out scores of one statement set at one checkpoint."""

    metrics: tuple[Metric, ...]
    probes: Probes
    held_out: HeldOut


def probe_scores(
    residuals: Float[Array, "L U D"],
    members: Int[np.ndarray, " N"],
    statement_set: SoundSet,
    layers: Sequence[int],
    layout: Layout | None = None,
    progress: str | None = None,
) -> Float[np.ndarray, "M R N"]:
    """Held-out log-odds of the probes alone, float32: what is kept of the re-initialised architecture.

    Raises:
        InputError: a probe that is not at its optimum.
    """
    rows = place(_probe_rows(members, statement_set), layout)
    results = list(by_layer(_scores_of_layer, residuals, layers, rows, None, layout, progress))
    _check_optimum(statement_set, layers, [converged for _, converged in results])
    return np.stack([scores for scores, _ in results])


def sound_trace(
    residuals: Float[Array, "L U D"],
    members: Int[np.ndarray, " N"],
    statement_set: SoundSet,
    text: Float[np.ndarray, "R N"],
    random_init: Float[np.ndarray, "M I R N"] | None,
    layers: Sequence[int],
    layout: Layout | None = None,
    progress: str | None = None,
) -> SoundTrace:
    """Protocol `sound` on one statement set.

    Args:
        residuals: of every distinct statement, layer 0 included: it is the X of I(X;T).
        members: which distinct statement each row of the set is.
        text: held-out scores of the text-only classifier, on the same folds.
        random_init: held-out scores of each re-initialisation of the architecture, as `probe_scores` gives them for
            `layers`; None where the architecture is not known: what is held against it is left out then.
        layers: which M layers to report.
        layout: the mesh that the residuals are whole on every device of; None for one device.
        progress: label of a progress bar; none is shown if None.

    Raises:
        InputError: a statistic that is not finite.
    """
    config, rows = statement_set.config, len(statement_set.independent)
    # One row of nothing stands for what is not known, and its estimates are dropped.
    scores = np.zeros((len(layers), 1, *text.shape), np.float32) if random_init is None else random_init
    as_repeats = scores.reshape(len(layers), -1, text.shape[1])
    at_layer = np.zeros((residuals.shape[0], *as_repeats.shape[1:]), np.float32)
    at_layer[np.asarray(layers)] = as_repeats
    probe, independent, halves = place(
        (
            _probe_rows(members, statement_set),
            statement_set.independent.astype(np.int32),
            half_samples(rows, HALVES, config.seed + 1),
        ),
        layout,
    )
    weights = np.asarray(with_ones(row_weights(statement_set.groups, config.draws, config.seed)))
    orders = permutations(rows, config.permutations, config.seed)
    line = np.asarray(model_free_baseline(statement_set, text, weights))
    shared = _Arrays(
        probe,
        place(weights, layout),
        place(line, layout),
        place(at_layer, layout),
        independent,
        place(orders, layout),
        halves,
        _input_side(residuals, probe.members[independent], halves),
    )
    results = list(by_layer(_sound_layer, residuals, layers, shared, None, layout, progress))
    if random_init is None:
        results = [_without_random_init(result) for result in results]
    init_variance = [between_initialisations(statement_set, one) if random_init is not None else {} for one in scores]
    each = zip(layers, results, init_variance, strict=True)
    table = [metric for layer, result, added in each for metric in layer_metrics(statement_set, layer, result, added)]
    table += chosen_layer_metrics(statement_set, layers, results, init_variance, weights, line)
    check_finite(table)
    _check_optimum(statement_set, layers, [result.fits.converged for result in results])
    fits = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *(result.fits for result in results))
    fold_of = np.asarray(probe.folds.fold_of)
    probes = Probes(fits.weights, fits.intercept, fits.mean, fits.scale, fold_of)
    return SoundTrace(tuple(table), probes, _held_out(statement_set, layers, results))


def _held_out(statement_set: SoundSet, layers: Sequence[int], results: Sequence[LayerResult]) -> HeldOut:
    """Scores of every row at the layer of the highest accuracy."""
    best = int(np.argmax([result.estimates["probe_accuracy"][0] for result in results]))
    statements, scores = statement_set.statements, np.asarray(results[best].held_out, np.float64).mean(axis=0)
    rows = np.arange(len(statements))
    return HeldOut(statements.name, "sound", layers[best], rows, statements.labels, scores.astype(np.float32))


def _without_random_init(result: LayerResult) -> LayerResult:
    return result._replace(
        estimates={name: values for name, values in result.estimates.items() if "random_init" not in name}
    )


def _check_optimum(statement_set: SoundSet, layers: Sequence[int], converged: Sequence[np.ndarray]) -> None:
    stuck = [layer for layer, folds in zip(layers, converged, strict=True) if not folds.all()]
    if stuck:
        raise InputError(not_at_optimum(statement_set.statements.name, stuck))


def _probe_rows(members: np.ndarray, statement_set: SoundSet) -> _ProbeRows:
    labels, control = statement_set.statements.labels.astype(np.float32), statement_set.control
    return _ProbeRows(
        jnp.asarray(members, jnp.int32),
        jnp.asarray(labels),
        jnp.asarray(control.labels),
        jnp.asarray(control.recurs, jnp.float32),
        fold_rows(statement_set.folds, len(labels)),
    )


@jax.jit
def _input_side(residuals: Float[Array, "L U D"], members: Int[Array, " m"], halves: Int[Array, "H h"]) -> InputSide:
    return sound_input(standardise(residuals[0][members].astype(jnp.float32)), halves)


def _scores_of_layer(
    residuals: Float[Array, "L U D"], layer: Int[Array, ""], rows: _ProbeRows, _: None
) -> tuple[Float[Array, "R N"], Bool[Array, " F"]]:
    x = residuals[layer][rows.members].astype(jnp.float32)
    fits = cross_validate(x, rows.labels, None, rows.folds)
    return held_out_scores(fits.scores, rows.folds.fold_of), fits.converged


def _sound_layer(residuals: Float[Array, "L U D"], layer: Int[Array, ""], arrays: _Arrays, _: None) -> LayerResult:
    rows, weights = arrays.probe, arrays.weights
    x = residuals[layer][rows.members].astype(jnp.float32)
    fits = cross_validate(x, rows.labels, rows.control, rows.folds)
    assert fits.control is not None
    fold_of, labels = rows.folds.fold_of, rows.labels
    probe, mass_mean, controls = (held_out_scores(s, fold_of) for s in (fits.scores, fits.mass_mean, fits.control))
    random_init = arrays.random_init[layer]
    right = accuracy(probe, labels, weights)
    loss = log_loss(probe, labels, weights)
    recurring = weights * rows.recurs
    each = [accuracy(scores[None], dealt, recurring) for scores, dealt in zip(controls, rows.control, strict=True)]
    control = jnp.mean(jnp.stack(each), axis=0)
    random_init_accuracy = accuracy(random_init, labels, weights)
    of_init = jnp.tile(fold_of, (len(random_init) // len(fold_of), 1))
    estimates = {
        "probe_accuracy": right,
        "probe_auroc": auroc(probe, fold_of, labels, weights),
        "probe_log_loss": loss,
        "mass_mean_accuracy": accuracy(mass_mean, labels, weights),
        "mass_mean_auroc": auroc(mass_mean, fold_of, labels, weights),
        "random_init_accuracy": random_init_accuracy,
        # Without draws: over three initialisations these would cost as much as the probe's own twice.
        "random_init_auroc": auroc(random_init, of_init, labels, weights[:1]),
        "control_accuracy": control,
        "selectivity": accuracy(probe, labels, recurring) - control,
        "gain_over_text": right - arrays.line,
        "gain_over_random_init": right - jnp.maximum(random_init_accuracy, COIN),
        "mi_yt_bound": label_entropy(labels, weights) - loss,
    }
    z = standardise(x[arrays.independent])
    information = sound_information(
        arrays.input_side, z, labels[arrays.independent], arrays.permutations, arrays.halves
    )
    slim = fits._replace(scores=fits.scores[:, :0], mass_mean=fits.mass_mean[:, :0], control=None)
    return LayerResult(estimates, calibration_gaps(probe, labels, weights), information, slim, probe)
