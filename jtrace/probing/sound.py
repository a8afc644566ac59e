"""Protocol `sound`: one checkpoint's residuals → metrics that a careful reviewer believes.

Every row is scored by a probe that has not seen its group, beside a classifier of the bare texts, the same architecture
re-initialised and a control task, all on the same folds and the same bootstrap draws; information stands beside its
permutation null. Axes: L layers, U distinct statements, N rows, R repeats, I initialisations, F fits, B weightings (the
first are ones, the others bootstrap draws), K bins, m independent rows, P permutations, H half samples, M reported
layers, D width.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from jtrace.data.control_task import ControlTask, control_task
from jtrace.data.groups import groups_of
from jtrace.data.splits import Fold, one_per_group, repeated_folds
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.kernels.standardise import standardise
from jtrace.models.sharding import Layout
from jtrace.probing.cross_validation import FoldProbe, FoldRows, cross_validate, fold_rows, held_out_scores
from jtrace.probing.information import (
    InputSide,
    SoundInformation,
    half_samples,
    permutations,
    sound_information,
    sound_input,
    summarise,
)
from jtrace.probing.layer_map import by_layer, place
from jtrace.probing.paper import not_at_optimum
from jtrace.probing.records import Metric
from jtrace.stats.bootstrap import (
    NOTHING,
    SHARE,
    Variance,
    difference_interval,
    effective_groups,
    interval,
    row_weights,
)
from jtrace.stats.calibration import calibration, calibration_gaps
from jtrace.stats.heldout_metrics import accuracy, auroc, label_entropy, log_loss

HALVES = 16
COIN = 0.5
# Differences of accuracies lie between −1 and 1, and have a rule of their own where they never vary.
DIFFERENCES = ("selectivity", "gain_over_text", "gain_over_random_init", "chosen_layer_gain")
# Of metrics that are no shares.
LIMITS = {"probe_log_loss": (0.0, np.inf), "mi_yt_bound": (-np.inf, np.inf)}
# Of rows whose last word recurs alone.
CONTROLS = ("control_accuracy", "selectivity")


@dataclass(frozen=True)
class SoundConfig:
    """What decides the numbers of protocol `sound`.

    Attributes:
        folds: of the grouped cross-validation.
        repeats: of it, each with folds of its own.
        inner_folds: 1 chooses C on one hold-out of the training rows, k on k folds of them.
        permutations: of the null of information.
        draws: of the cluster bootstrap.
        information_rows: most rows, one per group, that information is estimated on; sets that have so many compare.
    """

    folds: int = 5
    repeats: int = 1
    inner_folds: int = 1
    permutations: int = 200
    draws: int = 1000
    information_rows: int = 400
    seed: int = 0


@dataclass(frozen=True, eq=False)
class SoundSet:
    """A statement set as protocol `sound` sees it; the same for all checkpoints.

    Attributes:
        groups: of each row, int64 [N].
        folds: repeats-major.
        independent: rows of different groups, int64 [m].
        control: what the probe is fitted to beside the labels.
    """

    statements: Statements
    config: SoundConfig
    groups: np.ndarray
    folds: tuple[Fold, ...]
    independent: np.ndarray
    control: ControlTask

    @property
    def effective_groups(self) -> float:
        return effective_groups(np.bincount(self.groups))


class _ProbeRows(NamedTuple):
    members: Int[Array, " N"]
    labels: Float[Array, " N"]
    control: Float[Array, "R N"]
    recurs: Float[Array, " N"]
    folds: FoldRows


class _Arrays(NamedTuple):
    """What the layers of a set share.

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


class _LayerResult(NamedTuple):
    estimates: dict[str, Float[Array, " _"]]
    gaps: Float[Array, "B K"]
    information: SoundInformation
    fits: FoldProbe
    held_out: Float[Array, "R N"]


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
    """What one statement set yields at one checkpoint."""

    metrics: tuple[Metric, ...]
    probes: Probes


def sound_set(statements: Statements, config: SoundConfig) -> SoundSet:
    """Groups, folds and independent rows of a set.

    Raises:
        InputError: too few groups, or a label that a part of the split would lack.
    """
    groups, name = groups_of(statements), statements.source
    folds = repeated_folds(
        statements.labels, groups, config.folds, config.repeats, config.inner_folds, config.seed, name
    )
    independent = one_per_group(statements.labels, groups, config.information_rows, config.seed, name)
    control = control_task(statements.texts, statements.labels, folds, config.seed)
    return SoundSet(statements, config, groups, folds, independent, control)


def probe_scores(
    residuals: Float[Array, "L U D"],
    members: Int[np.ndarray, " N"],
    of: SoundSet,
    layers: Sequence[int],
    layout: Layout | None = None,
    progress: str | None = None,
) -> Float[np.ndarray, "M R N"]:
    """Held-out log-odds of the probes alone, float32: what is kept of the re-initialised architecture.

    Raises:
        InputError: a probe that is not at its optimum.
    """
    rows = place(_probe_rows(members, of), layout)
    results = list(by_layer(_scores_of_layer, residuals, layers, rows, None, layout, progress))
    _check_optimum(of, layers, [converged for _, converged in results])
    return np.stack([scores for scores, _ in results])


def sound_trace(
    residuals: Float[Array, "L U D"],
    members: Int[np.ndarray, " N"],
    of: SoundSet,
    text: Float[np.ndarray, "R N"],
    random_init: Float[np.ndarray, "M I R N"],
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
            `layers`.
        layers: which M layers to report.
        layout: the mesh that the residuals are whole on every device of; None for one device.
        progress: label of a progress bar; none is shown if None.

    Raises:
        InputError: a statistic that is not finite.
    """
    config, rows = of.config, len(of.independent)
    as_repeats = random_init.reshape(len(layers), -1, text.shape[1])
    at_layer = np.zeros((residuals.shape[0], *as_repeats.shape[1:]), np.float32)
    at_layer[np.asarray(layers)] = as_repeats
    probe, independent, halves = place(
        (_probe_rows(members, of), of.independent.astype(np.int32), half_samples(rows, HALVES, config.seed + 1)), layout
    )
    weights = np.asarray(_with_ones(row_weights(of.groups, config.draws, config.seed)))
    orders = permutations(rows, config.permutations, config.seed)
    line = np.asarray(_line(of, text, weights))
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
    apart = [_between(of, scores) for scores in random_init]
    each = zip(layers, results, apart, strict=True)
    table = [metric for layer, result, added in each for metric in _metrics(of, layer, result, added)]
    table += _chosen_layer(of, layers, results, apart, weights, line)
    for metric in table:
        if not np.isfinite([metric.value, metric.ci_low or 0.0, metric.ci_high or 0.0]).all():
            raise InputError(
                f"{metric.dataset}: {metric.metric} of layer {metric.layer} is {metric.value}; the checkpoint is not "
                "traceable"
            )
    _check_optimum(of, layers, [result.fits.converged for result in results])
    fits = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *(result.fits for result in results))
    fold_of = np.asarray(probe.folds.fold_of)
    probes = Probes(fits.weights, fits.intercept, fits.mean, fits.scale, fold_of)
    return SoundTrace(tuple(table), probes)


def baseline_metrics(of: SoundSet, text: Float[np.ndarray, "R N"], layers: Sequence[int]) -> list[Metric]:
    """Rows of what needs no model, the same for every layer, so that they join with a probe's row by row."""
    labels = jnp.asarray(of.statements.labels, jnp.float32)
    weights = _with_ones(row_weights(of.groups, of.config.draws, of.config.seed))
    folds = fold_rows(of.folds, len(labels)).fold_of
    estimates = {
        "text_accuracy": accuracy(text, labels, weights),
        "text_auroc": auroc(text, folds, labels, weights),
        "majority_accuracy": accuracy(_majority(of), labels, weights),
    }
    found = [*_estimated(of, 0, estimates), _metric(of, 0, "effective_groups", of.effective_groups, len(labels))]
    return [dataclasses.replace(metric, layer=layer) for layer in layers for metric in found]


def _check_optimum(of: SoundSet, layers: Sequence[int], converged: Sequence[np.ndarray]) -> None:
    stuck = [layer for layer, folds in zip(layers, converged, strict=True) if not folds.all()]
    if stuck:
        raise InputError(not_at_optimum(of.statements.name, stuck))


def _probe_rows(members: np.ndarray, of: SoundSet) -> _ProbeRows:
    labels, control = of.statements.labels.astype(np.float32), of.control
    return _ProbeRows(
        jnp.asarray(members, jnp.int32),
        jnp.asarray(labels),
        jnp.asarray(control.labels),
        jnp.asarray(control.recurs, jnp.float32),
        fold_rows(of.folds, len(labels)),
    )


def _majority(of: SoundSet) -> Float[np.ndarray, "R N"]:
    """Log-odds of always guessing the larger class of the training rows, by the sign."""
    labels = of.statements.labels
    scores = np.zeros((of.config.repeats, len(labels)), np.float32)
    for fold in of.folds:
        scores[fold.repeat, fold.test] = 1 if 2 * labels[fold.train].sum() > len(fold.train) else -1
    return scores


def _line(of: SoundSet, text: Float[np.ndarray, "R N"], weights: Float[np.ndarray, "B N"]) -> Float[Array, " B"]:
    """What needs no model: a classifier that does worse than guessing is no excuse for a probe that does not."""
    labels = jnp.asarray(of.statements.labels, jnp.float32)
    each = [accuracy(jnp.asarray(scores), labels, jnp.asarray(weights)) for scores in (text, _majority(of))]
    return jnp.maximum(jnp.maximum(*each), COIN)


def _with_ones(draws: Float[Array, "B N"]) -> Float[Array, "B1 N"]:
    return jnp.concatenate([jnp.ones((1, draws.shape[1]), draws.dtype), draws])


@jax.jit
def _input_side(residuals: Float[Array, "L U D"], members: Int[Array, " m"], halves: Int[Array, "H h"]) -> InputSide:
    return sound_input(standardise(residuals[0][members].astype(jnp.float32)), halves)


def _scores_of_layer(
    residuals: Float[Array, "L U D"], layer: Int[Array, ""], rows: _ProbeRows, _: None
) -> tuple[Float[Array, "R N"], Bool[Array, " F"]]:
    x = residuals[layer][rows.members].astype(jnp.float32)
    fits = cross_validate(x, rows.labels, None, rows.folds)
    return held_out_scores(fits.scores, rows.folds.fold_of), fits.converged


def _sound_layer(residuals: Float[Array, "L U D"], layer: Int[Array, ""], arrays: _Arrays, _: None) -> _LayerResult:
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
    by_chance = accuracy(random_init, labels, weights)
    of_init = jnp.tile(fold_of, (len(random_init) // len(fold_of), 1))
    estimates = {
        "probe_accuracy": right,
        "probe_auroc": auroc(probe, fold_of, labels, weights),
        "probe_log_loss": loss,
        "mass_mean_accuracy": accuracy(mass_mean, labels, weights),
        "mass_mean_auroc": auroc(mass_mean, fold_of, labels, weights),
        "random_init_accuracy": by_chance,
        # Without draws: over three initialisations these would cost as much as the probe's own twice.
        "random_init_auroc": auroc(random_init, of_init, labels, weights[:1]),
        "control_accuracy": control,
        "selectivity": accuracy(probe, labels, recurring) - control,
        "gain_over_text": right - arrays.line,
        "gain_over_random_init": right - jnp.maximum(by_chance, COIN),
        "mi_yt_bound": label_entropy(labels, weights) - loss,
    }
    z = standardise(x[arrays.independent])
    information = sound_information(
        arrays.input_side, z, labels[arrays.independent], arrays.permutations, arrays.halves
    )
    slim = fits._replace(scores=fits.scores[:, :0], mass_mean=fits.mass_mean[:, :0], control=None)
    return _LayerResult(estimates, calibration_gaps(probe, labels, weights), information, slim, probe)


def _metrics(of: SoundSet, layer: int, result: _LayerResult, added: Mapping[str, Variance]) -> Iterator[Metric]:
    yield from _estimated(of, layer, result.estimates, added)
    metric = partial(_metric, of, layer)
    calibrated = calibration(np.asarray(result.gaps, np.float64), of.effective_groups)
    if calibrated is not None:
        ends = calibrated.ci_low, calibrated.ci_high
        yield metric("probe_ece", calibrated.error, len(of.groups), ends)
        yield metric("probe_ece_excess", calibrated.excess, len(of.groups))
        yield metric("probe_ece_p", calibrated.p, len(of.groups))
    c = float(np.exp(np.mean(np.log(result.fits.c))))
    yield metric("probe_c", c, len(of.groups))
    rows, information = len(of.independent), result.information
    for name in ("xt", "yt"):
        found = summarise(
            getattr(information, name), getattr(information, f"{name}_null"), getattr(information, f"{name}_halves")
        )
        yield metric(f"mi_{name}", found.value, rows, (found.ci_low, found.ci_high))
        yield metric(f"mi_{name}_null", found.null_mean, rows, (found.null_low, found.null_high))
        yield metric(f"mi_{name}_excess", found.excess, rows, (found.excess_low, found.excess_high))
        yield metric(f"mi_{name}_p", found.p, rows)
        yield metric(f"hsic_{name}", float(getattr(information, f"hsic_{name}")), rows)
        yield metric(f"cka_{name}", float(getattr(information, f"cka_{name}")), rows)


def _between(of: SoundSet, scores: Float[np.ndarray, "I R N"]) -> dict[str, Variance]:
    """By how much the mean over initialisations varies with what these happened to be, by metric."""
    right = np.mean((scores > 0) == (of.statements.labels == 1), axis=(1, 2))
    several = len(scores)
    if several < 2:
        return {}

    def of_mean(values: np.ndarray) -> Variance:
        return Variance(float(values.var(ddof=1)) / several, several - 1)

    # Where all are below a coin it is the coin that a probe is held against, and that does not vary.
    return {"random_init_accuracy": of_mean(right), "gain_over_random_init": of_mean(np.maximum(right, COIN))}


def _estimated(
    of: SoundSet, layer: int, estimates: Mapping[str, ArrayLike], added: Mapping[str, Variance] | None = None
) -> Iterator[Metric]:
    """Metrics with intervals from the bootstrap draws; none for one that no row, or no pair of rows, defines.

    Args:
        added: what a metric varies by beside the groups.
    """
    for name, found in estimates.items():
        every = np.asarray(found, np.float64)
        value, draws = float(every[0]), every[1:]
        if not np.isfinite(value):
            continue
        groups = of.groups[of.control.recurs] if name in CONTROLS else of.groups
        effective, varies = effective_groups(np.bincount(groups)), (added or {}).get(name, NOTHING)
        if name in DIFFERENCES:
            ends = difference_interval(draws, value, effective, varies)
        else:
            ends = interval(draws, value, effective, LIMITS.get(name, SHARE), varies)
        yield _metric(of, layer, name, value, len(groups), ends)


def _metric(
    of: SoundSet, layer: int, name: str, value: float, n: int, ends: tuple[float, float] | None = None
) -> Metric:
    low, high = ends or (None, None)
    statements = of.statements
    return Metric(statements.name, statements.dimension, layer, "sound", name, value, n, of.config.seed, low, high)


def _chosen_layer(
    of: SoundSet,
    layers: Sequence[int],
    results: Sequence[_LayerResult],
    apart: Sequence[Mapping[str, Variance]],
    weights: Float[np.ndarray, "B N"],
    line: Float[np.ndarray, " B"],
) -> Iterator[Metric]:
    """Accuracy where each fit takes the layer that its inner rows favour: the best of many layers without its luck.

    And its gain over the line or, if that is better, over random params at their own best layer.

    Args:
        apart: of each layer, by how much random params vary.
    """
    losses = np.stack([result.fits.inner_loss for result in results])
    chosen = losses.argmin(axis=0)
    scores = np.stack([result.held_out for result in results])
    found = np.zeros(scores.shape[1:], np.float32)
    for fold, at in zip(of.folds, chosen, strict=True):
        found[fold.repeat, fold.test] = scores[at, fold.repeat, fold.test]
    right = np.asarray(accuracy(found, of.statements.labels.astype(np.float32), weights), np.float64)
    each = np.stack([result.estimates["random_init_accuracy"] for result in results])
    random_init, best = each.max(axis=0), int(each[:, 0].argmax())
    varies = apart[best].get("random_init_accuracy", NOTHING) if random_init[0] > line[0] else NOTHING
    estimates = {"chosen_layer_accuracy": right, "chosen_layer_gain": right - np.maximum(line, random_init)}
    at = layers[int(np.bincount(chosen).argmax())]
    yield from _estimated(of, at, estimates, {"chosen_layer_gain": varies})
