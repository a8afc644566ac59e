"""Sub-benchmark `extract`: residuals of every layer at statements' last tokens, packing included.

Axes: L layers, M sampled statements, D width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jtrace.benchmark.case import Agreement, Floor, Measured, timed, timed_warm
from jtrace.benchmark.decoder_floor import attended, distinct_prefixes, forward_operations
from jtrace.benchmark.workload import BATCHED, JTRACE, PUBLISHED, Workload
from jtrace.inference.packing import Packed, operations_per_slot
from jtrace.inference.residuals import default_batch_slots, extract_residuals, pack_sets
from jtrace.models.config import DecoderConfig

FLOAT32_BAR = 1e-5
# Bar of jtrace's error in a narrower dtype over torch's error in that dtype.
NARROW_BAR = 1.5


def extraction_floor(distinct: Packed, config: DecoderConfig, itemsize: int, batch_slots: int) -> Floor:
    """Counts the work of all blocks on the distinct prefixes of all statements, each attending to all tokens before it.

    Bytes are those of the blocks' weights, once per batch, and of a residual stream that every block reads and writes.

    Args:
        itemsize: bytes of a number in the forward.
        batch_slots: slots of one batch.
    """
    slots = int(distinct.used.sum())
    weights = operations_per_slot(config, 0) // 2 * math.ceil(slots / batch_slots)
    residuals = 2 * config.depth * slots * config.width
    return Floor(forward_operations(config, slots, attended(distinct), 0), itemsize * (weights + residuals))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Computes the relative Frobenius error of each layer: [L M D] and [L M D] to float64 [L]."""
    difference, expected = actual.astype(np.float64) - expected, expected.astype(np.float64)
    return np.linalg.norm(difference, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))


@dataclass(frozen=True)
class Extract:
    """Extraction by each contender; the published loop is measured on the sample, and all are compared on it."""

    name: str = "extract"
    unit: str = "statements"
    contenders: tuple[str, ...] = (JTRACE, PUBLISHED, BATCHED)

    def measure(self, contender: str, workload: Workload) -> Measured:
        sampled = workload.sampled(len(workload.all_tokens))
        return (
            _measure_jtrace(workload, sampled) if contender == JTRACE else _measure_torch(contender, workload, sampled)
        )

    def agree(self, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        ours, dtype = arrays[JTRACE]["residuals"], str(arrays[JTRACE]["dtype"])
        errors = {
            peer: relative_error(ours, arrays[peer]["residuals"]) for peer in (PUBLISHED, BATCHED) if peer in arrays
        }
        bar = FLOAT32_BAR if dtype == "float32" else None
        agreements = [Agreement(f"residuals beside {peer}", float(error.max()), bar) for peer, error in errors.items()]
        if dtype == "float32" or len(errors) < 2:
            return agreements
        theirs = relative_error(arrays[BATCHED]["residuals"], arrays[PUBLISHED]["residuals"])
        worst = float((errors[PUBLISHED] / theirs).max())
        return [*agreements, Agreement(f"{dtype} error of residuals beside torch's own", worst, NARROW_BAR)]


def _measure_jtrace(workload: Workload, sampled: np.ndarray) -> Measured:
    params, dtype = workload.params, jnp.dtype(workload.setting.dtype)

    def extract_all() -> None:
        # A device that just holds the model has no room for two results.
        vars(workload).pop("residuals", None)
        workload.packed = pack_sets(workload.tokens, workload.config)
        workload.residuals = extract_residuals(
            params, workload.config, workload.packed.packed, dtype=dtype
        ).block_until_ready()

    first, rounds = timed(extract_all, workload.setting.rounds)
    packed = workload.packed.packed
    distinct = distinct_prefixes(workload.all_tokens)
    floor = extraction_floor(distinct, workload.config, dtype.itemsize, default_batch_slots())
    residuals = np.asarray(workload.residuals[:, packed.distinct[sampled]].astype(jnp.float32))
    arrays = {"residuals": residuals, "dtype": np.array(dtype.name)}
    return Measured(first, rounds, len(workload.all_tokens), floor, arrays)


def _measure_torch(contender: str, workload: Workload, sampled: np.ndarray) -> Measured:
    from jtrace.benchmark.peers.forward import extract_batched, extract_one_by_one, on_host

    model, every, published = workload.torch_model, np.arange(len(workload.all_tokens)), contender == PUBLISHED
    call, items = (extract_one_by_one, sampled) if published else (extract_batched, every)
    tokens = [workload.all_tokens[i] for i in items]
    call(model, tokens[:4])
    latest: list[Any] = []

    def extract_all() -> None:
        latest.clear()
        latest.append(call(model, tokens))

    if published:
        first, rounds = timed_warm(extract_all, workload.one_by_one_rounds)
    else:
        first, rounds = timed(extract_all, workload.setting.rounds)
    residuals = on_host(latest[0][:, np.searchsorted(items, sampled)])
    if published and len(items) == len(every):
        workload.torch_residuals = residuals
    return Measured(first, rounds, len(items), arrays={"residuals": residuals})


CASE = Extract()
