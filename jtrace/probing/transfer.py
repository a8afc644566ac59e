"""Probes tested where they were not fitted: on the other sets of a checkpoint, and on other checkpoints.

Axes: L layers, U distinct statements, N rows of the set that is tested, D width, S probes or sets, F fits (folds of all
repeats, repeats-major), R repeats, B bootstrap draws.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from jtrace.data.groups import Words, words_of
from jtrace.data.statements import Statements
from jtrace.probing.cross_validation import held_out_scores
from jtrace.probing.raw_probes import KeptProbes, scores_of
from jtrace.probing.records import Metric
from jtrace.stats.bootstrap import effective_groups, interval, row_weights
from jtrace.stats.heldout_metrics import accuracy, auroc, linear_auroc
from jtrace.stats.sampling import evenly_spread

COLUMNS = ("model", "protocol", "dataset", "dimension", "layer", "trained_at", "tested_at", "accuracy", "auroc", "n")
# Every pair of them is tested.
MOST_CHECKPOINTS = 12
# Reads the probes of some sets, and how they were made; None where a checkpoint has none.
ReadProbes = Callable[[str, Collection[str]], tuple[Mapping[str, KeptProbes], Mapping[str, Any]] | None]
# Checkpoint, set → kept activations [layer, statement, width]; None where none are kept.
ReadActivations = Callable[[str, str], np.ndarray | None]


# eq=False: comparing arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class Target:
    """A set that the probes of other sets are tested on; the same at every checkpoint.

    Attributes:
        labels: 0 or 1, float32 [N].
        groups: rows of one group are drawn together, int64 [N].
        unseen: which rows have no twin in each other set, by that set's name, bool [N].
    """

    name: str
    dimension: str
    labels: np.ndarray
    groups: np.ndarray
    unseen: Mapping[str, np.ndarray]


def targets_of(sets: Sequence[Statements], groups: Mapping[str, Int[np.ndarray, " N"]]) -> tuple[Target, ...]:
    """Every set as a target of all others.

    Args:
        groups: of each set's rows, see `jtrace.data.groups.groups_of`; twins are told as there, by their words.
    """
    words = {statements.name: words_of(statements.texts) for statements in sets}
    return tuple(
        Target(
            to.name,
            to.dimension,
            to.labels.astype(np.float32),
            groups[to.name],
            {name: _unseen(words[to.name], set(words[name])) for name in words if name != to.name},
        )
        for to in sets
    )


def between_sets(
    residuals: Float[Array, "L U D"],
    members: Mapping[str, Int[np.ndarray, " N"]],
    targets: Sequence[Target],
    probes: Mapping[str, Float[np.ndarray, "F K _"]],
    layers: Sequence[int],
    draws: int = 1000,
    seed: int = 0,
) -> list[Metric]:
    """Test each set's probe on every other set, with 95 % cluster-bootstrap intervals over the tested set's groups.

    `transfer_accuracy:A` and `transfer_auroc:A` of set B are those of the probe of A on the rows of B whose text is not
    among A's, whatever their case and punctuation. The probe of A is the mean over its fits, whose scores are the mean
    log-odds. Labels are taken as they are: where 1 is the bad side of A and the good side of B, or the shared concept
    points the other way, the AUROC is below 0.5 and tells as much as one above.

    Args:
        residuals: of every distinct statement, layer 0 included.
        members: which distinct statement each row of a set is.
        probes: of each set, raw, for the K reported layers (`raw_probe`).
        layers: the K reported ones.

    Returns:
        Rows of the table, layer by layer within a pair; none where no row, for the AUROC no pair of labels, is left.
    """
    names = [target.name for target in targets]
    mean_probes = np.stack([probes[name].mean(axis=0, dtype=np.float64) for name in names], axis=1)
    # On the host: where residuals lie on a mesh, the rest is each process's own.
    scores = jax.device_get(_scores(residuals, np.asarray(layers, np.int32), mean_probes.astype(np.float32)))
    table: list[Metric] = []
    for to in targets:
        weights = row_weights(to.groups, draws, seed)
        for trained_on, unseen in to.unseen.items():
            probe_scores = scores[:, names.index(trained_on), members[to.name]]
            tested = jax.device_get(_tested(probe_scores, to.labels, unseen.astype(np.float32), weights))
            metric = partial(Metric, to.name, to.dimension, protocol="sound", n=int(unseen.sum()), seed=seed)
            groups = effective_groups(np.bincount(to.groups[unseen]))
            for name, values, estimates in (
                ("accuracy", tested.accuracy, tested.drawn_accuracy),
                ("auroc", tested.auroc, tested.drawn_auroc),
            ):
                for layer, value, drawn in zip(layers, map(float, values), estimates, strict=True):
                    if np.isfinite(value):
                        low, high = interval(drawn, value, groups) or (None, None)
                        named = f"transfer_{name}:{trained_on}"
                        table.append(metric(layer=layer, metric=named, value=value, ci_low=low, ci_high=high))
    return table


def between_checkpoints(
    model: str,
    checkpoints: Sequence[str],
    dimensions: Mapping[str, str],
    read_probes: ReadProbes,
    read_activations: ReadActivations,
) -> pd.DataFrame:
    """Test the probes of each checkpoint on every checkpoint, itself included: does the concept stay where it was?

    The folds of a run are the same at all of its checkpoints, so each fit scores the rows that it has not seen
    wherever it is tested: trained and tested at one checkpoint, it has the accuracy of the table of metrics. One
    checkpoint's activations of one set are in memory at a time.

    Args:
        model: what the table calls it.
        checkpoints: those of one trajectory whose activations are kept, in order; `MOST_CHECKPOINTS` of them, evenly
            spread, are taken, less those whose probes are of other layers, widths or folds than the last one's.
        dimensions: of each set.

    Returns:
        Columns `COLUMNS`, protocol `sound`: accuracy, and AUROC within folds, of `n` rows.
    """
    chosen = [checkpoints[at] for at in evenly_spread(len(checkpoints), MOST_CHECKPOINTS)]
    table: list[tuple[str | int | float, ...]] = []
    for dataset, dimension in dimensions.items():
        layers, kept = _alike({name: read_probes(name, [dataset]) for name in chosen}, dataset)
        if not kept:
            continue
        probes = np.stack([one.probes for one in kept.values()], axis=1)
        any_one = next(iter(kept.values()))
        folds, labels = any_one.folds, any_one.labels.astype(np.float32)
        for tested_at in kept:
            if (activations := read_activations(tested_at, dataset)) is None:
                continue
            rows = activations.shape[1]
            for at, layer in enumerate(layers):
                accuracies, areas = jax.device_get(_held_out(activations[at], probes[:, :, at], folds, labels))
                table += [
                    (model, "sound", dataset, dimension, layer, trained_at, tested_at, float(right), float(area), rows)
                    for trained_at, right, area in zip(kept, accuracies, areas, strict=True)
                    if np.isfinite(area)
                ]
    return pd.DataFrame(table, columns=list(COLUMNS))


class _Tested(NamedTuple):
    """One set's probe on another set: the estimates, and under bootstrap weights."""

    accuracy: Float[Array, " L"]
    auroc: Float[Array, " L"]
    drawn_accuracy: Float[Array, "L B"]
    drawn_auroc: Float[Array, "L B"]


@jax.jit
def _scores(
    residuals: Float[Array, "L U D"], layers: Int[Array | np.ndarray, " K"], probes: Float[Array | np.ndarray, "K S _"]
) -> Float[Array, "K S U"]:
    return jax.lax.map(lambda at: scores_of(residuals[at[0]], at[1]), (layers, probes))


@jax.jit
def _tested(
    scores: Float[Array | np.ndarray, "L N"],
    labels: Float[Array | np.ndarray, " N"],
    unseen: Float[Array | np.ndarray, " N"],
    weights: Float[Array, "B N"],
) -> _Tested:
    """Accuracy and AUROC of one set's probe, a row of scores for each layer.

    Args:
        unseen: 1 for the rows that are tested.
    """
    counted = jnp.concatenate([jnp.ones_like(weights[:1]), weights]) * unseen
    right = jax.vmap(lambda row: accuracy(row[None], labels, counted))(scores)
    area = linear_auroc(scores, labels, jnp.asarray(unseen) > 0, counted)
    return _Tested(right[:, 0], area[:, 0], right[:, 1:], area[:, 1:])


@jax.jit
def _held_out(
    activations: Float[Array | np.ndarray, "N D"],
    probes: Float[Array | np.ndarray, "F S _"],
    folds: Int[Array | np.ndarray, "R N"],
    labels: Float[Array | np.ndarray, " N"],
) -> tuple[Float[Array, " S"], Float[Array, " S"]]:
    """Accuracy and AUROC of S checkpoints' probes, each fit on the rows that were held out of it."""
    fits, count, _ = probes.shape
    scores = scores_of(activations, probes.reshape(fits * count, -1)).reshape(fits, count, -1)
    evenly = jnp.ones((1, activations.shape[0]))

    fold_of = jnp.asarray(folds, jnp.int32)

    def of_one(scores: Float[Array, "F N"]) -> tuple[Array, Array]:
        held_out = held_out_scores(scores, fold_of)
        return accuracy(held_out, labels, evenly)[0], auroc(held_out, fold_of, labels, evenly)[0]

    return jax.lax.map(of_one, scores.swapaxes(0, 1))


def _unseen(words: Sequence[Words], seen: Collection[Words]) -> np.ndarray:
    return np.array([form not in seen for form in words], bool)


def _alike(
    by_checkpoint: Mapping[str, tuple[Mapping[str, KeptProbes], Mapping[str, Any]] | None], dataset: str
) -> tuple[list[int], dict[str, KeptProbes]]:
    """A set's probes by checkpoint, those whose layers, shapes and folds are the last one's, and these layers."""
    read = {
        name: (list(file[1]["layers"]), file[0][dataset])
        for name, file in by_checkpoint.items()
        if file and dataset in file[0]
    }
    if not read:
        return [], {}
    *_, (layers, last) = read.values()
    return layers, {
        name: kept
        for name, (its_layers, kept) in read.items()
        if its_layers == layers and kept.probes.shape == last.probes.shape and np.array_equal(kept.folds, last.folds)
    }
