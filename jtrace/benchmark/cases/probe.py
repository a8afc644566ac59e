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

# Layers of a set for the published statistics, where the published extraction is measured on a sample.
SAMPLED_LAYERS = 2
EXACT_LAYERS = 3  # first, middle and last
# Share of test rows by which decisions, and accuracies, of jtrace's probe and of the exact optimum may differ.
DECISIONS_BAR = 1e-3
# For the floor: the fewest Newton steps, and the passes over the training rows of each.
NEWTON_STEPS, PASSES = 10, 2


class SetRows(NamedTuple):
    """The rows of a set among the distinct statements, and its published split."""

    members: Int[Array, " N"]
    labels: Float[Array, " N"]
    train: Int[Array, " Ntrain"]
    test: Int[Array, " Ntest"]


def set_rows(workload: Workload) -> dict[str, SetRows]:
    """Returns the rows of every set, on the device.

    Raises:
        InputError: too few rows for the published split.
    """
    by_name = {}
    for name, statements in workload.sets.items():
        split = prefix_split(statements.labels, name=statements.source)
        labels = jnp.asarray(statements.labels, jnp.float32)
        by_name[name] = SetRows(
            jnp.asarray(workload.packed.members[name]), labels, jnp.asarray(split.train), jnp.asarray(split.test)
        )
    return by_name


def published_layers(workload: Workload) -> np.ndarray:
    """Returns the layers for the published statistics, int64."""
    depth = workload.config.depth
    return evenly_spread(depth, depth if workload.setting.sample is None else SAMPLED_LAYERS)


def by_set(workload: Workload, statistics: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]) -> Measured:
    """Times published statistics, a tree of arrays [L], on every set's residuals of some layers, labels and layer 0."""
    layers, of_sets, by_name = published_layers(workload), workload.of_set(workload.torch_residuals), {}
    smallest = min(of_sets, key=lambda name: len(workload.sets[name]))
    # The first call loads libraries and starts threads.
    statistics(of_sets[smallest][:1], workload.sets[smallest].labels, of_sets[smallest][0])

    def run() -> None:
        for name, residuals in of_sets.items():
            by_name[name] = statistics(residuals[layers], workload.sets[name].labels, residuals[0])

    first, rounds = timed_warm(run, workload.one_by_one_rounds)
    arrays = jax.tree.map(lambda *leaves: np.stack(leaves), *by_name.values())
    return Measured(first, rounds, len(layers) * len(of_sets), arrays=arrays | {"layers": layers})


def largest_difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], name: str) -> float:
    """Returns the largest difference of two [set, layer] tables, on the layers that the peer has."""
    return float(np.abs(ours[name][:, theirs["layers"]] - theirs[name]).max())


def probe_floor(training: int, width: int) -> Floor:
    """Counts the least work of one probe; the number of products depends on the data.

    Operations are ten Newton steps of two passes over the training rows, 4 N D each, and one Hessian of N D²
    (symmetric), or N² D with fewer rows than features. The float32 rows are read once: caches may hold them.
    """
    hessian = training * width * min(training, width)
    operations = NEWTON_STEPS * PASSES * 2 * training * width + hessian
    return Floor(operations, 4 * training * width)


@dataclass(frozen=True)
class Probe:
    """Probes of every layer and set; published by scikit-learn on the host."""

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

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        ours = arrays[JTRACE]
        apart = float(np.abs(ours["probe_accuracy"][0, ours["layers"]] - ours["exact_accuracy"]).max())
        agreements = [
            Agreement("probe decisions unlike the optimum's", float(ours["unlike"].max()), DECISIONS_BAR),
            Agreement("accuracy beside the optimum's", apart, DECISIONS_BAR),
        ]
        if PUBLISHED not in arrays:
            return agreements
        worst = largest_difference(ours, arrays[PUBLISHED], "probe_accuracy")
        return [*agreements, Agreement("accuracy beside published", worst)]


def _layer(residuals: Float[Array, "L U D"], layer: Int[Array, ""], rows: SetRows, _: None) -> Float[Array, ""]:
    z = standardise(residuals[layer][rows.members].astype(jnp.float32))
    return paper_probe(z[rows.train], rows.labels[rows.train], z[rows.test], rows.labels[rows.test]).accuracy


@jax.jit
def _decisions(raw: Float[Array, "N D"], rows: SetRows) -> Array:
    z = standardise(raw)
    return decision(z[rows.test], fit_logistic(z[rows.train], rows.labels[rows.train])) > 0


def _measure_jtrace(workload: Workload) -> Measured:
    residuals, sets, depth = workload.residuals.block_until_ready(), set_rows(workload), workload.config.depth
    latest: list[np.ndarray] = []

    def run() -> None:
        queued = [
            [one_layer(_layer, residuals, np.int32(at), rows, None) for at in range(depth)] for rows in sets.values()
        ]
        latest[:] = [np.array(jax.device_get(queued))]

    first, rounds = timed(run, workload.setting.rounds)
    floors = [probe_floor(len(rows.train), workload.config.width) for rows in sets.values()]
    floor = Floor(depth * sum(one.operations for one in floors), depth * sum(one.bytes for one in floors), "float32")
    layers = evenly_spread(depth, EXACT_LAYERS)
    exact = [_optimum(residuals[layer], next(iter(sets.values()))) for layer in layers]
    unlike, accuracy = np.array(exact).T
    arrays = {"probe_accuracy": latest[0], "layers": layers, "unlike": unlike, "exact_accuracy": accuracy}
    return Measured(first, rounds, depth * len(sets), floor, arrays)


def _optimum(residuals: Float[Array, "U D"], rows: SetRows) -> tuple[float, float]:
    """Returns the share of test rows where jtrace's probe and the float64 optimum differ, and the latter's accuracy."""
    from sklearn.linear_model import LogisticRegression

    raw = residuals[rows.members].astype(jnp.float32)
    ours, z, labels = np.asarray(_decisions(raw, rows)), np.asarray(raw, np.float64), np.asarray(rows.labels)
    varies, z = z.std(0) > 0, z - z.mean(0)
    z = np.where(varies, z / np.where(varies, z.std(0, ddof=1), 1), 0)
    exact = LogisticRegression(tol=1e-9, max_iter=100_000).fit(z[rows.train], labels[rows.train])
    decisions = exact.decision_function(z[rows.test]) > 0
    return float(np.mean(ours != decisions)), float(np.mean(decisions == labels[rows.test]))


CASE = Probe()
