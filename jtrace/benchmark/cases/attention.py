"""Sub-benchmark `attention`: extraction by each implementation of attention in the decoder, on a GPU.

Axes: L layers, U distinct statements, M sampled statements, D width.
"""

import statistics
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jtrace.benchmark.case import Agreement, Case, Measured, timed
from jtrace.benchmark.cases.extract import FLOAT32_BAR, NARROW_BAR, relative_error
from jtrace.benchmark.workload import JTRACE, Workload
from jtrace.inference.packing import pack
from jtrace.inference.residuals import extract_residuals
from jtrace.models.decoder import AttentionBy
from jtrace.stats.sampling import evenly_spread

DEFAULT: AttentionBy = "xla"
# cuDNN has no float32.
OTHERS: dict[str, tuple[AttentionBy, ...]] = {"float32": ("pallas",), "bfloat16": ("cudnn", "pallas")}
SAMPLED = 64  # statements whose residuals are compared


class AttentionCase:
    """Extraction by each implementation. Seconds are the default's, without packing; agreements give the others'."""

    name = "attention"
    unit = "statements"
    contenders: tuple[str, ...] = (JTRACE,)

    def measure(self, contender: str, workload: Workload) -> Measured | None:
        """Measures seconds, and errors against products in float32 from the same params; None on a CPU."""
        if jax.default_backend() != "gpu":
            return None
        return compare(workload, OTHERS[workload.setting.dtype])

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Gives each other implementation's time over the default's, and its error, or the reason why it failed."""
        ours, agreements = arrays[JTRACE], []
        exact = str(ours["dtype"]) == "float32"
        for by in (name.removesuffix(" seconds") for name in ours if name.endswith(" seconds")):
            agreements.append(
                Agreement(f"{by}: seconds over {DEFAULT}'s", float(ours[f"{by} seconds"] / ours["seconds"]))
            )
            error, of_default = float(ours[f"{by} error"]), float(ours["error"])
            bar = FLOAT32_BAR if exact else NARROW_BAR * of_default
            agreements.append(Agreement(f"{by}: error of residuals; {DEFAULT}'s is {of_default:.2e}", error, bar))
        failed = [name for name in ours if name.endswith(" fault")]
        return agreements + [Agreement(f"{name}: {ours[name]}", float("nan")) for name in failed]


CASE: Case = AttentionCase()


def compare(workload: Workload, others: tuple[AttentionBy, ...]) -> Measured:
    """Measures the default and others; a failure is reported with its fault, and the rest goes on."""
    params, config, dtype = workload.params, workload.config, jnp.dtype(workload.setting.dtype)
    packed, tokens = workload.packed.packed, workload.all_tokens
    sampled = evenly_spread(len(tokens), SAMPLED)
    few = pack([tokens[i] for i in sampled], packed.width)
    # The residual stream, and so every product, has the embedding's dtype.
    exact = {**params, "embedding": params["embedding"].astype(jnp.float32)}
    truth = np.asarray(extract_residuals(exact, config, few, dtype=jnp.float32))[:, few.distinct]

    def measured(by: AttentionBy) -> tuple[float, tuple[float, ...], float]:
        made: list[jax.Array] = []

        def call() -> None:
            made.clear()  # a device that just holds the model has no room for two results
            made.append(extract_residuals(params, config, packed, dtype=dtype, attention=by).block_until_ready())

        first, rounds = timed(call, workload.setting.rounds)
        residuals = np.asarray(made[0][:, packed.distinct[sampled]].astype(jnp.float32))
        return first, rounds, float(relative_error(residuals, truth).max())

    first, rounds, error = measured(DEFAULT)
    arrays = {"seconds": np.array(statistics.median(rounds)), "error": np.array(error), "dtype": np.array(dtype.name)}
    for by in others:
        try:
            _, other, error = measured(by)
        except Exception as fault:  # a compiler or library may not support this GPU or JAX
            arrays[f"{by} fault"] = np.array(f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}")
            continue
        arrays[f"{by} seconds"], arrays[f"{by} error"] = np.array(statistics.median(other)), np.array(error)
    return Measured(first, rounds, len(tokens), arrays=arrays)
