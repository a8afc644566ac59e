"""Sub-benchmark `information`: the published I(X;T) and I(Y;T) of every layer and set, on standardised residuals.

Axes: L layers, U distinct statements, N statements of a set, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jtrace.benchmark.case import Agreement, Floor, Measured, timed
from jtrace.benchmark.cases.probe import EXACT_LAYERS, SetRows, by_set, largest_difference, set_rows
from jtrace.benchmark.workload import JTRACE, PUBLISHED, Workload
from jtrace.kernels.standardise import standardise
from jtrace.probing.information import PAPER_BANDWIDTH, PAPER_EPSILON, Information, paper_information, paper_smoother
from jtrace.probing.layer_map import one_layer
from jtrace.stats.sampling import evenly_spread

# Relative error against float64, as in jtrace's tests.
EXACT_BAR = 5e-4
# With more training rows, float64 on the host takes too long; the first set with no more is compared.
MOST_EXACT_ROWS = 2500


def information_floor(training: int, width: int) -> Floor:
    """Counts the work of one smoother R = I − λ (K + λI)⁻¹ of N rows in D features, and of its trace with another.

    Operations are the products of all rows, N² D (symmetric), a Cholesky factor, N³ / 3, and the inverse from it,
    2 N³ / 3. Bytes are the float32 rows and the other smoother, read once: caches may hold the rest.
    """
    return Floor(training**2 * width + training**3, 4 * (training * width + training**2))


@dataclass(frozen=True)
class InformationCase:
    """Information of every layer and set; published by float32 torch.inverse on the host."""

    name: str = "information"
    unit: str = "layers × sets"
    contenders: tuple[str, ...] = (JTRACE, PUBLISHED)

    def measure(self, contender: str, workload: Workload) -> Measured:
        if contender == JTRACE:
            return _measure_jtrace(workload)
        from jtrace.benchmark.peers.statistics import published_information

        return by_set(workload, published_information)

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        ours = arrays[JTRACE]
        agreements = []
        if "exact" in ours:
            error = float(np.max(np.abs(ours["beside_exact"] - ours["exact"]) / np.abs(ours["exact"])))
            agreements.append(Agreement(f"beside float64, {len(ours['exact'])} layers, relative", error, EXACT_BAR))
        if PUBLISHED in arrays:
            for name in ("mi_xt", "mi_yt"):
                agreements.append(Agreement(name, largest_difference(ours, arrays[PUBLISHED], name)))
        return agreements


@jax.jit
def _input_smoother(residuals: Float[Array, "L U D"], rows: SetRows) -> Float[Array, "Ntrain Ntrain"]:
    return paper_smoother(standardise(residuals[0][rows.members].astype(jnp.float32))[rows.train])


def _layer(
    residuals: Float[Array, "L U D"],
    layer: Int[Array, ""],
    shared: tuple[SetRows, Float[Array, "Ntrain Ntrain"]],
    _: None,
) -> Information:
    rows, smoother_x = shared
    z = standardise(residuals[layer][rows.members].astype(jnp.float32))[rows.train]
    return paper_information(smoother_x, z, rows.labels[rows.train])


def _measure_jtrace(workload: Workload) -> Measured:
    residuals, sets, depth = workload.residuals.block_until_ready(), set_rows(workload), workload.config.depth
    latest: list[np.ndarray] = []

    def run() -> None:
        queued = []
        for rows in sets.values():
            arguments = rows, _input_smoother(residuals, rows)
            queued.append([one_layer(_layer, residuals, np.int32(at), arguments, None) for at in range(depth)])
        latest[:] = [np.array(jax.device_get(queued))]

    first, rounds = timed(run, workload.setting.rounds)
    # The smoother of the input is the work of one more layer.
    floors = [information_floor(len(rows.train), workload.config.width) for rows in sets.values()]
    layers = depth + 1
    floor = Floor(layers * sum(one.operations for one in floors), layers * sum(one.bytes for one in floors), "float32")
    arrays = {"mi_xt": latest[0][..., 0], "mi_yt": latest[0][..., 1]}
    exact_layers = evenly_spread(depth, depth if workload.setting.sample is None else EXACT_LAYERS)
    for at, rows in enumerate(sets.values()):
        if len(rows.train) <= MOST_EXACT_ROWS:
            exact = np.array([_exact_information(residuals, rows, layer) for layer in exact_layers])
            arrays |= {"beside_exact": latest[0][at, exact_layers], "exact": exact}
            break
    return Measured(first, rounds, depth * len(sets), floor, arrays)


def _exact_information(residuals: Float[Array, "L U D"], rows: SetRows, layer: int) -> np.ndarray:
    """Computes I(X;T) and I(Y;T) of one layer by their definition, tr(R_A R_B) with R = K (K + εnI)⁻¹, in float64."""

    def standard(at: int) -> np.ndarray:
        raw = np.asarray(residuals[at][rows.members].astype(jnp.float32), np.float64)
        varies = np.ptp(raw, axis=0) > 0
        return ((raw - raw.mean(0))[:, varies] / raw[:, varies].std(0, ddof=1))[rows.train]

    def smoother(x: np.ndarray, width: int) -> np.ndarray:
        n, products = len(x), x @ x.T
        squares = np.diag(products)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
        centring = np.eye(n) - 1 / n
        gram = centring @ np.expm1(-distances / (2 * PAPER_BANDWIDTH**2 * width)) @ centring
        return np.linalg.solve(gram + PAPER_EPSILON * n * np.eye(n), gram)

    width, labels = residuals.shape[2], np.asarray(rows.labels, np.float64)[rows.train, None]
    t = smoother(standard(layer), width)
    return np.array([np.sum(smoother(standard(0), width) * t.T), np.sum(smoother(labels, 1) * t.T)])


CASE = InformationCase()
