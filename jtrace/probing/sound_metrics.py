"""Results of probes, baselines and information of a layer → rows of the table, with intervals.

Axes: L layers, N rows, R repeats, I initialisations, B weightings (the first are ones, the others bootstrap draws),
K bins.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from jtrace.probing.cross_validation import FoldProbe, fold_rows
from jtrace.probing.information import SoundInformation, summarise
from jtrace.probing.records import Metric
from jtrace.probing.sound_set import SoundSet
from jtrace.stats.bootstrap import (
    NO_VARIANCE,
    SHARE,
    Variance,
    difference_interval,
    effective_groups,
    interval,
    row_weights,
)
from jtrace.stats.calibration import calibration
from jtrace.stats.heldout_metrics import accuracy, auroc, is_right

COIN = 0.5
# Differences of accuracies lie between −1 and 1, and have a rule of their own where they never vary.
DIFFERENCES = ("selectivity", "gain_over_text", "gain_over_random_init", "chosen_layer_gain")
# Value ranges of metrics that do not lie in 0 to 1.
LIMITS = {"probe_log_loss": (0.0, np.inf), "mi_yt_bound": (-np.inf, np.inf)}
# These count only rows whose last word recurs in the training rows.
CONTROLS = ("control_accuracy", "selectivity")


class LayerResult(NamedTuple):
    estimates: dict[str, Float[Array, " _"]]
    gaps: Float[Array, "B K"]
    information: SoundInformation
    fits: FoldProbe
    held_out: Float[Array, "R N"]


def baseline_metrics(statement_set: SoundSet, text: Float[np.ndarray, "R N"], layers: Sequence[int]) -> list[Metric]:
    """Rows of baselines without a model, the same for every layer, so that they join with a probe's row by row."""
    labels = jnp.asarray(statement_set.statements.labels, jnp.float32)
    weights = with_ones(row_weights(statement_set.groups, statement_set.config.draws, statement_set.config.seed))
    folds = fold_rows(statement_set.folds, len(labels)).fold_of
    estimates = {
        "text_accuracy": accuracy(text, labels, weights),
        "text_auroc": auroc(text, folds, labels, weights),
        "majority_accuracy": accuracy(_majority(statement_set), labels, weights),
    }
    metrics = [
        *_estimated(statement_set, 0, estimates),
        _metric(statement_set, 0, "effective_groups", statement_set.effective_groups, len(labels)),
    ]
    return [dataclasses.replace(metric, layer=layer) for layer in layers for metric in metrics]


def _majority(statement_set: SoundSet) -> Float[np.ndarray, "R N"]:
    """Log-odds of always guessing the larger class of the training rows, by the sign."""
    labels = statement_set.statements.labels
    scores = np.zeros((statement_set.config.repeats, len(labels)), np.float32)
    for fold in statement_set.folds:
        scores[fold.repeat, fold.test] = 1 if 2 * labels[fold.train].sum() > len(fold.train) else -1
    return scores


def model_free_baseline(
    statement_set: SoundSet, text: Float[np.ndarray, "R N"], weights: Float[np.ndarray, "B N"]
) -> Float[Array, " B"]:
    """Accuracy of the best that needs no model: the text classifier, the larger class, or a coin."""
    labels = jnp.asarray(statement_set.statements.labels, jnp.float32)
    each = [accuracy(jnp.asarray(scores), labels, jnp.asarray(weights)) for scores in (text, _majority(statement_set))]
    return jnp.maximum(jnp.maximum(*each), COIN)


def with_ones(draws: Float[Array, "B N"]) -> Float[Array, "B1 N"]:
    return jnp.concatenate([jnp.ones((1, draws.shape[1]), draws.dtype), draws])


def layer_metrics(
    statement_set: SoundSet, layer: int, result: LayerResult, added: Mapping[str, Variance]
) -> Iterator[Metric]:
    yield from _estimated(statement_set, layer, result.estimates, added)
    metric = partial(_metric, statement_set, layer)
    calibrated = calibration(np.asarray(result.gaps, np.float64), statement_set.effective_groups)
    if calibrated is not None:
        ends = calibrated.ci_low, calibrated.ci_high
        yield metric("probe_ece", calibrated.error, len(statement_set.groups), ends)
        yield metric("probe_ece_excess", calibrated.excess, len(statement_set.groups))
        yield metric("probe_ece_p", calibrated.p, len(statement_set.groups))
    c = float(np.exp(np.mean(np.log(result.fits.c))))
    yield metric("probe_c", c, len(statement_set.groups))
    rows, information = len(statement_set.independent), result.information
    for name in ("xt", "yt"):
        estimate = summarise(
            getattr(information, name), getattr(information, f"{name}_null"), getattr(information, f"{name}_halves")
        )
        yield metric(f"mi_{name}", estimate.value, rows, (estimate.ci_low, estimate.ci_high))
        yield metric(f"mi_{name}_null", estimate.null_mean, rows, (estimate.null_low, estimate.null_high))
        yield metric(f"mi_{name}_excess", estimate.excess, rows, (estimate.excess_low, estimate.excess_high))
        yield metric(f"mi_{name}_p", estimate.p, rows)
        yield metric(f"hsic_{name}", float(getattr(information, f"hsic_{name}")), rows)
        yield metric(f"cka_{name}", float(getattr(information, f"cka_{name}")), rows)


def between_initialisations(statement_set: SoundSet, scores: Float[np.ndarray, "I R N"]) -> dict[str, Variance]:
    """Variance of the mean over initialisations that stems from the draw of these, by metric."""
    right = np.mean(is_right(scores, statement_set.statements.labels), axis=(1, 2))
    several = len(scores)
    if several < 2:
        return {}

    def of_mean(values: np.ndarray) -> Variance:
        return Variance(float(values.var(ddof=1)) / several, several - 1)

    # A probe is held against a coin where random params are below it, and a coin does not vary.
    return {"random_init_accuracy": of_mean(right), "gain_over_random_init": of_mean(np.maximum(right, COIN))}


def _estimated(
    statement_set: SoundSet, layer: int, estimates: Mapping[str, ArrayLike], added: Mapping[str, Variance] | None = None
) -> Iterator[Metric]:
    """Metrics with intervals from the bootstrap draws; a metric that no row, or no pair of rows, defines is left out.

    Args:
        added: what a metric varies by beside the groups.
    """
    for name, weighted in estimates.items():
        every = np.asarray(weighted, np.float64)
        value, draws = float(every[0]), every[1:]
        if not np.isfinite(value):
            continue
        groups = statement_set.groups[statement_set.control.recurs] if name in CONTROLS else statement_set.groups
        effective, varies = effective_groups(np.bincount(groups)), (added or {}).get(name, NO_VARIANCE)
        if name in DIFFERENCES:
            ends = difference_interval(draws, value, effective, varies)
        else:
            ends = interval(draws, value, effective, LIMITS.get(name, SHARE), varies)
        yield _metric(statement_set, layer, name, value, len(groups), ends)


def _metric(
    statement_set: SoundSet, layer: int, name: str, value: float, n: int, ends: tuple[float, float] | None = None
) -> Metric:
    low, high = ends or (None, None)
    statements = statement_set.statements
    return Metric(
        statements.name, statements.dimension, layer, "sound", name, value, n, statement_set.config.seed, low, high
    )


def chosen_layer_metrics(
    statement_set: SoundSet,
    layers: Sequence[int],
    results: Sequence[LayerResult],
    init_variance: Sequence[Mapping[str, Variance]],
    weights: Float[np.ndarray, "B N"],
    line: Float[np.ndarray, " B"],
) -> Iterator[Metric]:
    """Accuracy where each fit takes the layer that its inner rows favour: the best of many layers without its luck.

    And its gain over the text-only line, or over random params at their own best layer where these are better.

    Args:
        init_variance: of each layer, by how much random params vary.
    """
    losses = np.stack([result.fits.inner_loss for result in results])
    chosen = losses.argmin(axis=0)
    scores = np.stack([result.held_out for result in results])
    held_out = np.zeros(scores.shape[1:], np.float32)
    for fold, at in zip(statement_set.folds, chosen, strict=True):
        held_out[fold.repeat, fold.test] = scores[at, fold.repeat, fold.test]
    right = np.asarray(accuracy(held_out, statement_set.statements.labels.astype(np.float32), weights), np.float64)
    nothing = np.zeros(len(line), np.float32)
    each = np.stack([result.estimates.get("random_init_accuracy", nothing) for result in results])
    random_init, best = each.max(axis=0), int(each[:, 0].argmax())
    varies = init_variance[best].get("random_init_accuracy", NO_VARIANCE) if random_init[0] > line[0] else NO_VARIANCE
    estimates = {"chosen_layer_accuracy": right, "chosen_layer_gain": right - np.maximum(line, random_init)}
    at = layers[int(np.bincount(chosen).argmax())]
    yield from _estimated(statement_set, at, estimates, {"chosen_layer_gain": varies})
