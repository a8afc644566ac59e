"""Linear probes in Python: metrics as a run's tables have them, directions, and predictions on other activations.

Axes: M layers, F fits, N statements, D width.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from jtrace.api.activations import Activations, as_activations, check_same
from jtrace.api.arguments import in_python_words
from jtrace.data.splits import prefix_split
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.kernels.logistic import fit_logistic
from jtrace.kernels.standardise import standardise, training_scale
from jtrace.probing.layer_map import by_layer
from jtrace.probing.paper import not_at_optimum, paper_trace
from jtrace.probing.protocols import PROTOCOLS, Protocol
from jtrace.probing.raw_probes import raw_probe, scores_of
from jtrace.probing.records import Metric
from jtrace.probing.sound import sound_trace
from jtrace.probing.sound_metrics import baseline_metrics
from jtrace.probing.sound_set import SoundConfig, SoundSet, sound_set
from jtrace.probing.text_baseline import text_baseline, text_scores
from jtrace.runs.metrics_files import metrics_frame
from jtrace.sweep.baselines import Untrained, random_init_scores


# eq=False: arrays have no single truth value.
@dataclass(frozen=True, eq=False)
class Probes:
    """Linear probes of some layers.

    Attributes:
        table: a row per layer and metric, columns as in RUN/metrics.
        layers: in the order of all arrays.
        raw: float32 [F, M, D+1]: weights of raw residuals, then the intercept; one fit of `paper`, one per fold of
            `sound`.
    """

    table: pd.DataFrame
    protocol: Protocol
    layers: tuple[int, ...]
    raw: Float[np.ndarray, "F M D1"]

    @property
    def directions(self) -> Float[np.ndarray, "M D"]:
        """Weights of raw residuals, the mean over fits; they point to label 1."""
        return self.raw[..., :-1].mean(axis=0)

    @property
    def intercepts(self) -> Float[np.ndarray, " M"]:
        """Intercepts of raw residuals, the mean over fits."""
        return self.raw[..., -1].mean(axis=0)

    def scores(self, activations: Activations | Any) -> Float[np.ndarray, "M N"]:
        """Computes log-odds of label 1 of other statements, the mean over fits.

        Rows that the probes were fitted to are scored too well: held-out numbers are those of `table`.

        Args:
            activations: of the probes' layers at least, or an array [layer, statement, width] of exactly these.

        Raises:
            InputError: a layer is missing, or the width differs.
        """
        given = as_activations(activations, self.layers)
        values, layers = given.values, given.layers
        if not set(self.layers) <= set(layers):
            raise InputError(f"activations of layers {list(layers)}; the probes are of {list(self.layers)}")
        if values.shape[2] != self.raw.shape[2] - 1:
            raise InputError(f"activations of width {values.shape[2]}; the probes are of width {self.raw.shape[2] - 1}")
        each = [
            scores_of(values[layers.index(layer)], self.raw[:, at]).mean(axis=0) for at, layer in enumerate(self.layers)
        ]
        return np.stack([np.asarray(one) for one in each])

    def predict(self, activations: Activations | Any) -> Int[np.ndarray, "M N"]:
        """Predicts the labels of other statements, 0 or 1; see `scores`."""
        return (self.scores(activations) > 0).astype(np.int8)

    def __repr__(self) -> str:
        name, count = self.table["dataset"].iloc[0], len(self.layers)
        return f"Probes({self.protocol}, {name!r}: {count} layers; {self._best()})"

    def _repr_html_(self) -> str:
        wide = self.table.pivot_table(index="layer", columns="metric", values="value", sort=False)
        return f"<p>{self!r}</p>{wide.to_html(float_format='{:.3f}'.format, max_rows=40)}"

    def _best(self) -> str:
        rows = self.table[self.table["metric"] == "probe_accuracy"]
        top = rows.iloc[int(rows["value"].to_numpy().argmax())]
        spread = "" if pd.isna(top["ci_low"]) else f" ({top['ci_low']:.3f} to {top['ci_high']:.3f})"
        return f"accuracy {top['value']:.3f}{spread} at layer {top['layer']}, the best of them"


@in_python_words
def fit_probes(
    activations: Activations | Any,
    statements: Statements,
    protocol: Protocol = "sound",
    *,
    folds: int = 5,
    repeats: int = 1,
    inner_folds: int = 1,
    permutations: int = 200,
    draws: int = 1000,
    information_rows: int = 400,
    seed: int = 0,
    random_init: bool = True,
    progress: bool = True,
) -> Probes:
    """Fits a linear probe in every layer and measures it as a trace does, with the same numbers.

    Args:
        activations: of `Model.activations`, or an array [layer, statement, width] of one's own, layer 0 first.
        statements: the same statements, with their labels.
        protocol: `sound` (grouped cross-validation, intervals, baselines, nulls) or `paper` (as published).
        folds, repeats, inner_folds, permutations, draws, information_rows, seed: of `sound`, see
            `jtrace.probing.sound_set.SoundConfig`.
        random_init: of `sound`: also hold probes against the same architecture with random params, three times;
            this takes three extractions more. Arrays of one's own have no architecture.
        progress: show bars on a terminal.

    Raises:
        InputError: activations and statements do not belong together, too few rows or groups, or a statistic that is
            not finite.
    """
    given = as_activations(activations)
    check_same(given, statements)
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol={protocol!r}: known are {', '.join(PROTOCOLS)}")
    label = statements.name if progress else None
    if protocol == "paper":
        trace = paper_trace(given.residuals, given.members, statements, given.layers, label)
        metrics = [*trace.metrics, *text_baseline(statements).metrics(statements, given.layers)]
        raw = _paper_probes(given, statements)
    else:
        config = SoundConfig(folds, repeats, inner_folds, permutations, draws, information_rows, seed)
        metrics, raw = _sound(given, sound_set(statements, config), random_init, label)
    ref = given.origin.ref if given.origin else None
    return Probes(metrics_frame(ref, metrics), protocol, given.layers, raw)


def _sound(
    given: Activations, split: SoundSet, random_init: bool, label: str | None
) -> tuple[list[Metric], Float[np.ndarray, "F M D1"]]:
    text, scores, origin = text_scores(split.statements, split.folds), None, given.origin
    if random_init and origin is not None:
        untrained = Untrained(origin.architecture, given.layers, "", origin.dtype, given.read)
        scores = random_init_scores(untrained, origin.packed_as(split.statements.name), [split], split.config.seed,
                                    progress=label)[split.statements.name]  # fmt: skip
    trace = sound_trace(given.residuals, given.members, split, text, scores, given.layers, progress=label)
    probes = trace.probes
    raw = raw_probe(probes.weights, probes.intercepts, probes.means, probes.scales)
    return [*trace.metrics, *baseline_metrics(split, text, given.layers)], raw


def _paper_probes(given: Activations, statements: Statements) -> Float[np.ndarray, "F M D1"]:
    """The published probes, of raw residuals."""
    rows = (
        jnp.asarray(given.members),
        jnp.asarray(statements.labels, jnp.float32),
        prefix_split(statements.labels).train,
    )
    fits = list(by_layer(_paper_fit, given.residuals, given.layers, rows))
    stuck = [layer for layer, fit in zip(given.layers, fits, strict=True) if not fit[-1]]
    if stuck:
        raise InputError(not_at_optimum(statements.name, stuck))
    weights, intercept, mean, scale, _ = (np.stack(parts) for parts in zip(*fits, strict=True))
    return raw_probe(weights, intercept, mean, scale)[None]


def _paper_fit(residuals: Array, layer: Array, rows: tuple[Array, Array, Array], _: None) -> tuple[Array, ...]:
    members, labels, train = rows
    x = residuals[layer][members].astype(jnp.float32)
    fit = fit_logistic(standardise(x)[train], labels[train])
    mean, scale = training_scale(x, jnp.ones(x.shape[0], x.dtype))
    return fit.weights, fit.intercept, mean, scale, fit.converged
