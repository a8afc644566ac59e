"""What probes, baselines and information of a layer came to → rows of the table, with intervals.

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
    NOTHING,
    SHARE,
    Variance,
    difference_interval,
    effective_groups,
    interval,
    row_weights,
)
from jtrace.stats.calibration import calibration
from jtrace.stats.heldout_metrics import accuracy, auroc

COIN = 0.5
# Differences of accuracies lie between −1 and 1, and have a rule of their own where they never vary.
DIFFERENCES = ("selectivity", "gain_over_text", "gain_over_random_init", "chosen_layer_gain")
# Of metrics that are no shares.
LIMITS = {"probe_log_loss": (0.0, np.inf), "mi_yt_bound": (-np.inf, np.inf)}
# These count only rows whose last word recurs in the training rows.
CONTROLS = ("control_accuracy", "selectivity")


class LayerResult(NamedTuple):
    estimates: dict[str, Float[Array, " _"]]
    gaps: Float[Array, "B K"]
    information: SoundInformation
    fits: FoldProbe
    held_out: Float[Array, "R N"]


def baseline_metrics(of: SoundSet, text: Float[np.ndarray, "R N"], layers: Sequence[int]) -> list[Metric]:
    """Rows of what needs no model, the same for every layer, so that they join with a probe's row by row."""
    labels = jnp.asarray(of.statements.labels, jnp.float32)
    weights = with_ones(row_weights(of.groups, of.config.draws, of.config.seed))
    folds = fold_rows(of.folds, len(labels)).fold_of
    estimates = {
        "text_accuracy": accuracy(text, labels, weights),
        "text_auroc": auroc(text, folds, labels, weights),
        "majority_accuracy": accuracy(_majority(of), labels, weights),
    }
    found = [*_estimated(of, 0, estimates), _metric(of, 0, "effective_groups", of.effective_groups, len(labels))]
    return [dataclasses.replace(metric, layer=layer) for layer in layers for metric in found]


def _majority(of: SoundSet) -> Float[np.ndarray, "R N"]:
    """Log-odds of always guessing the larger class of the training rows, by the sign."""
    labels = of.statements.labels
    scores = np.zeros((of.config.repeats, len(labels)), np.float32)
    for fold in of.folds:
        scores[fold.repeat, fold.test] = 1 if 2 * labels[fold.train].sum() > len(fold.train) else -1
    return scores


def text_line(of: SoundSet, text: Float[np.ndarray, "R N"], weights: Float[np.ndarray, "B N"]) -> Float[Array, " B"]:
    """Accuracy of the best that needs no model: the text classifier, the larger class, or a coin."""
    labels = jnp.asarray(of.statements.labels, jnp.float32)
    each = [accuracy(jnp.asarray(scores), labels, jnp.asarray(weights)) for scores in (text, _majority(of))]
    return jnp.maximum(jnp.maximum(*each), COIN)


def with_ones(draws: Float[Array, "B N"]) -> Float[Array, "B1 N"]:
    return jnp.concatenate([jnp.ones((1, draws.shape[1]), draws.dtype), draws])


def layer_metrics(of: SoundSet, layer: int, result: LayerResult, added: Mapping[str, Variance]) -> Iterator[Metric]:
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


def between_initialisations(of: SoundSet, scores: Float[np.ndarray, "I R N"]) -> dict[str, Variance]:
    """Variance of the mean over initialisations that stems from the draw of these, by metric."""
    right = np.mean((scores > 0) == (of.statements.labels == 1), axis=(1, 2))
    several = len(scores)
    if several < 2:
        return {}

    def of_mean(values: np.ndarray) -> Variance:
        return Variance(float(values.var(ddof=1)) / several, several - 1)

    # A probe is held against a coin where random params are below it, and a coin does not vary.
    return {"random_init_accuracy": of_mean(right), "gain_over_random_init": of_mean(np.maximum(right, COIN))}


def _estimated(
    of: SoundSet, layer: int, estimates: Mapping[str, ArrayLike], added: Mapping[str, Variance] | None = None
) -> Iterator[Metric]:
    """Metrics with intervals from the bootstrap draws; a metric that no row, or no pair of rows, defines is left out.

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


def chosen_layer_metrics(
    of: SoundSet,
    layers: Sequence[int],
    results: Sequence[LayerResult],
    apart: Sequence[Mapping[str, Variance]],
    weights: Float[np.ndarray, "B N"],
    line: Float[np.ndarray, " B"],
) -> Iterator[Metric]:
    """Accuracy where each fit takes the layer that its inner rows favour: the best of many layers without its luck.

    And its gain over the text-only line, or over random params at their own best layer where these are better.

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
