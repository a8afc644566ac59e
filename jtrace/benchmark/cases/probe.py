"""Sub-benchmark `probe`: the published logistic probe of every layer and set, on standardised residuals.

Axes: L layers, U distinct statements, N statements of a set.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jtrace.benchmark.case import Agreement, Floor, Measured, timed, timed_warm
from jtrace.benchmark.workload import JTRACE, PUBLISHED, Workload
from jtrace.data.splits import prefix_split
from jtrace.kernels.logistic import decision, fit_logistic
from jtrace.kernels.standardise import standardise
from jtrace.probing.layer_map import one_layer
from jtrace.probing.probes import paper_probe
from jtrace.stats.sampling import evenly_spread

# Layers of a set that the published statistics are measured on where the published extraction is on a sample.
SAMPLED_LAYERS = 2
EXACT_LAYERS = 3  # first, middle and last
# Share of test rows on which jtrace's probe and one at its exact optimum may decide otherwise, or be right.
DECISIONS_BAR = 1e-3
# Of the floor: the fewest Newton steps, and passes over the training rows that each takes.
NEWTON_STEPS, PASSES = 10, 2


class SetRows(NamedTuple):
    """A set's rows among the distinct statements, and its published split."""

    members: Int[Array, " N"]
    labels: Float[Array, " N"]
    train: Int[Array, " Ntrain"]
    test: Int[Array, " Ntest"]


def set_rows(workload: Workload) -> dict[str, SetRows]:
    """Of every set, on the device.

    Raises:
        InputError: too few rows for the published split.
    """
    found = {}
    for name, of in workload.sets.items():
        split = prefix_split(of.labels, name=of.source)
        labels = jnp.asarray(of.labels, jnp.float32)
        found[name] = SetRows(
            jnp.asarray(workload.packed.members[name]), labels, jnp.asarray(split.train), jnp.asarray(split.test)
        )
    return found


def published_layers(workload: Workload) -> np.ndarray:
    """Layers that the published statistics are measured on, int64."""
    depth = workload.config.depth
    return evenly_spread(depth, depth if workload.setting.sample is None else SAMPLED_LAYERS)


def by_set(workload: Workload, statistics: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> Measured:
    """Time published statistics, a tree of arrays [L], of every set's residuals of some layers, labels and layer 0."""
    layers, of_sets, found = published_layers(workload), workload.of_set(workload.torch_residuals), {}
    smallest = min(of_sets, key=lambda name: len(workload.sets[name]))
    # Libraries load and threads start.
    statistics(of_sets[smallest][:1], workload.sets[smallest].labels, of_sets[smallest][0])

    def run() -> None:
        for name, residuals in of_sets.items():
            found[name] = statistics(residuals[layers], workload.sets[name].labels, residuals[0])

    first, rounds = timed_warm(run, workload.one_by_one_rounds)
    arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *found.values())
    return Measured(first, rounds, len(layers) * len(of_sets), arrays=arrays | {"layers": layers})


def largest_difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], name: str) -> float:
    """Of [set, layer] tables, on the layers that the peer has."""
    return float(np.abs(ours[name][:, theirs["layers"]] - theirs[name]).max())


def probe_floor(training: int, width: int) -> Floor:
    """Of one probe, told as a minimum, as the number of products depends on the data.

    Ten Newton steps of two passes over the training rows, 4 N D operations each, and one Hessian of N D² operations
    (symmetric), or N² D where rows are fewer than features. The float32 rows are read once: caches may hold them.
    """
    hessian = training * width * min(training, width)
    operations = NEWTON_STEPS * PASSES * 2 * training * width + hessian
    return Floor(operations, 4 * training * width)


@dataclass(frozen=True)
class Probe:
    """Published: scikit-learn on the host."""

    name: str = "probe"
    unit: str = "layers × sets"
    contenders: tuple[str, ...] = (JTRACE, PUBLISHED)

    def measure(self, contender: str, workload: Workload) -> Measured:
        if contender == JTRACE:
            return _measure_jtrace(workload)
        from jtrace.benchmark.peers.statistics import published_probes

        return by_set(
            workload, lambda activations, labels, _: {"probe_accuracy": published_probes(activations, labels)}
        )

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        ours = found[JTRACE]
        apart = float(np.abs(ours["probe_accuracy"][0, ours["layers"]] - ours["exact_accuracy"]).max())
        told = [
            Agreement("probe decisions unlike the optimum's", float(ours["unlike"].max()), DECISIONS_BAR),
            Agreement("accuracy beside the optimum's", apart, DECISIONS_BAR),
        ]
        if PUBLISHED not in found:
            return told
        worst = largest_difference(ours, found[PUBLISHED], "probe_accuracy")
        return [*told, Agreement("accuracy beside published", worst)]


def _layer(residuals: Float[Array, "L U D"], layer: Int[Array, ""], rows: SetRows, _: None) -> Float[Array, ""]:
    z = standardise(residuals[layer][rows.members].astype(jnp.float32))
    return paper_probe(z[rows.train], rows.labels[rows.train], z[rows.test], rows.labels[rows.test]).accuracy


@jax.jit
def _decisions(raw: Float[Array, "N D"], rows: SetRows) -> Array:
    z = standardise(raw)
    return decision(z[rows.test], fit_logistic(z[rows.train], rows.labels[rows.train])) > 0


def _measure_jtrace(workload: Workload) -> Measured:
    residuals, sets, depth = workload.residuals.block_until_ready(), set_rows(workload), workload.config.depth
    found: list[np.ndarray] = []

    def run() -> None:
        queued = [
            [one_layer(_layer, residuals, np.int32(at), rows, None) for at in range(depth)] for rows in sets.values()
        ]
        found[:] = [np.array(jax.device_get(queued))]

    first, rounds = timed(run, workload.setting.rounds)
    floors = [probe_floor(len(rows.train), workload.config.width) for rows in sets.values()]
    floor = Floor(depth * sum(of.operations for of in floors), depth * sum(of.bytes for of in floors), "float32")
    layers = evenly_spread(depth, EXACT_LAYERS)
    exact = [_optimum(residuals[layer], next(iter(sets.values()))) for layer in layers]
    unlike, accuracy = np.array(exact).T
    arrays = {"probe_accuracy": found[0], "layers": layers, "unlike": unlike, "exact_accuracy": accuracy}
    return Measured(first, rounds, depth * len(sets), floor, arrays)


def _optimum(residuals: Float[Array, "U D"], rows: SetRows) -> tuple[float, float]:
    """Share of test rows where jtrace's probe decides unlike the optimum, fitted in float64; accuracy of the latter."""
    from sklearn.linear_model import LogisticRegression

    raw = residuals[rows.members].astype(jnp.float32)
    ours, z, labels = np.asarray(_decisions(raw, rows)), np.asarray(raw, np.float64), np.asarray(rows.labels)
    varies, z = z.std(0) > 0, z - z.mean(0)
    z = np.where(varies, z / np.where(varies, z.std(0, ddof=1), 1), 0)
    exact = LogisticRegression(tol=1e-9, max_iter=100_000).fit(z[rows.train], labels[rows.train])
    decisions = exact.decision_function(z[rows.test]) > 0
    return float(np.mean(ours != decisions)), float(np.mean(decisions == labels[rows.test]))


CASE = Probe()
