"""Sub-benchmark `attention`: extraction by each way of attending that the decoder has, on a GPU.

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
SAMPLED = 64  # statements that residuals are compared on


class AttentionCase:
    """Seconds are the default's, packing not counted; what the others take beside it is told in the agreements."""

    name = "attention"
    unit = "statements"
    contenders: tuple[str, ...] = (JTRACE,)

    def measure(self, contender: str, workload: Workload) -> Measured | None:
        """Errors are beside products in float32 from the same params; None on a CPU."""
        if jax.default_backend() != "gpu":
            return None
        return compare(workload, OTHERS[workload.setting.dtype])

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        """Of each other way: what it takes beside the default, and its error, or in a word why there is none."""
        ours, told = found[JTRACE], []
        exact = str(ours["dtype"]) == "float32"
        for by in (name.removesuffix(" seconds") for name in ours if name.endswith(" seconds")):
            told.append(Agreement(f"{by}: seconds over {DEFAULT}'s", float(ours[f"{by} seconds"] / ours["seconds"])))
            error, of_default = float(ours[f"{by} error"]), float(ours["error"])
            bar = FLOAT32_BAR if exact else NARROW_BAR * of_default
            told.append(Agreement(f"{by}: error of residuals; {DEFAULT}'s is {of_default:.2e}", error, bar))
        failed = [name for name in ours if name.endswith(" fault")]
        return told + [Agreement(f"{name}: {ours[name]}", float("nan")) for name in failed]


CASE: Case = AttentionCase()


def compare(workload: Workload, others: tuple[AttentionBy, ...]) -> Measured:
    """Of the default and of others; one that fails is told with its fault, and the rest goes on."""
    params, config, dtype = workload.params, workload.config, jnp.dtype(workload.setting.dtype)
    packed, tokens = workload.packed.packed, workload.all_tokens
    sampled = evenly_spread(len(tokens), SAMPLED)
    few = pack([tokens[i] for i in sampled], packed.width)
    # The residual stream, and with it every product, is of the embedding's dtype.
    exact = {**params, "embedding": params["embedding"].astype(jnp.float32)}
    truth = np.asarray(extract_residuals(exact, config, few, dtype=jnp.float32))[:, few.distinct]

    def measured(by: AttentionBy) -> tuple[float, tuple[float, ...], float]:
        made: list[jax.Array] = []

        def call() -> None:
            made.clear()  # a device of the size of the model has no room for two
            made.append(extract_residuals(params, config, packed, dtype=dtype, attention=by).block_until_ready())

        first, rounds = timed(call, workload.setting.rounds)
        residuals = np.asarray(made[0][:, packed.distinct[sampled]].astype(jnp.float32))
        return first, rounds, float(relative_error(residuals, truth).max())

    first, rounds, error = measured(DEFAULT)
    arrays = {"seconds": np.array(statistics.median(rounds)), "error": np.array(error), "dtype": np.array(dtype.name)}
    for by in others:
        try:
            _, other, error = measured(by)
        except Exception as fault:  # of a compiler or library that this GPU or this JAX does not go with
            arrays[f"{by} fault"] = np.array(f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}")
            continue
        arrays[f"{by} seconds"], arrays[f"{by} error"] = np.array(statistics.median(other)), np.array(error)
    return Measured(first, rounds, len(tokens), arrays=arrays)
