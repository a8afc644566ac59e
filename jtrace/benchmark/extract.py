"""Sub-benchmark `extract`: statements → residuals of every layer at their last token, packing counted in.

Axes: L layers, M sampled statements, D width.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jtrace.activations import BATCH_SLOTS, extract, pack_sets
from jtrace.benchmark.case import Agreement, Floor, Measured, timed, timed_warm
from jtrace.benchmark.decoder_floor import attended, forward_operations
from jtrace.benchmark.shared import BATCHED, JTRACE, PUBLISHED, Shared
from jtrace.data.packing import Packed, operations_per_slot
from jtrace.models.config import DecoderConfig
from jtrace.models.decoder import AttentionBy

FLOAT32_BAR = 1e-5
# jtrace's error in a narrower dtype, beside that of torch in the same dtype.
NARROW_BAR = 1.5
# Measured beside the default on a GPU; cuDNN has no float32.
OTHER_ATTENTION: dict[str, tuple[AttentionBy, ...]] = {"float32": ("pallas",), "bfloat16": ("cudnn", "pallas")}


def extraction_floor(packed: Packed, config: DecoderConfig, itemsize: int, batch_slots: int) -> Floor:
    """Of all blocks on the slots that hold tokens, each attending to itself and the tokens before it.

    Bytes are those of the blocks' weights, once per batch, and of a residual stream that every block reads and writes.

    Args:
        itemsize: bytes of a number of the forward.
        batch_slots: slots of one batch.
    """
    slots = int(packed.used.sum())
    weights = operations_per_slot(config, 0) // 2 * math.ceil(slots / batch_slots)
    residuals = 2 * config.depth * slots * config.width
    return Floor(forward_operations(config, slots, attended(packed), 0), itemsize * (weights + residuals))


def relative_error(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Relative Frobenius error of each layer, [L M D] beside [L M D] → float64 [L]."""
    difference, expected = found.astype(np.float64) - expected, expected.astype(np.float64)
    return np.linalg.norm(difference, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))


@dataclass(frozen=True)
class Extract:
    """The published loop is measured on the sample; all are compared on it."""

    name: str = "extract"
    unit: str = "statements"
    contenders: tuple[str, ...] = (JTRACE, PUBLISHED, BATCHED)

    def measure(self, contender: str, shared: Shared) -> Measured:
        sampled = shared.sampled(len(shared.all_tokens))
        return _measure_jtrace(shared, sampled) if contender == JTRACE else _measure_torch(contender, shared, sampled)

    def agree(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Agreement]:
        ours, dtype = found[JTRACE]["residuals"], str(found[JTRACE]["dtype"])
        errors = {
            peer: relative_error(ours, found[peer]["residuals"]) for peer in (PUBLISHED, BATCHED) if peer in found
        }
        bar = FLOAT32_BAR if dtype == "float32" else None
        by = [Agreement(name, float(found[JTRACE][name])) for name in found[JTRACE] if "attention" in name]
        told = by + [Agreement(f"residuals beside {peer}", float(error.max()), bar) for peer, error in errors.items()]
        if dtype == "float32" or len(errors) < 2:
            return told
        theirs = relative_error(found[BATCHED]["residuals"], found[PUBLISHED]["residuals"])
        worst = float((errors[PUBLISHED] / theirs).max())
        return [*told, Agreement(f"{dtype} error of residuals beside torch's own", worst, NARROW_BAR)]


def _measure_jtrace(shared: Shared, sampled: np.ndarray) -> Measured:
    params, dtype = shared.params, jnp.dtype(shared.setting.dtype)

    def extract_all() -> None:
        # A device of the size of the model has no room for two.
        vars(shared).pop("residuals", None)
        shared.packed = pack_sets(shared.tokens, shared.config)
        shared.residuals = extract(params, shared.config, shared.packed.packed, dtype=dtype).block_until_ready()

    first, rounds = timed(extract_all, shared.setting.rounds)
    packed = shared.packed.packed
    floor = extraction_floor(packed, shared.config, dtype.itemsize, BATCH_SLOTS.get(jax.default_backend(), 2048))
    residuals = np.asarray(shared.residuals[:, packed.distinct[sampled]].astype(jnp.float32))
    arrays = {"residuals": residuals, "dtype": np.array(dtype.name)}
    if jax.default_backend() == "gpu":
        arrays |= _other_attention(shared, residuals, sampled, statistics.median(rounds))
    return Measured(first, rounds, len(shared.all_tokens), floor, arrays)


def _other_attention(
    shared: Shared, residuals: np.ndarray, sampled: np.ndarray, seconds: float
) -> dict[str, np.ndarray]:
    """The attentions that are not the default: seconds over those of XLA's, and the largest error beside it."""
    packed, dtype, found = shared.packed.packed, jnp.dtype(shared.setting.dtype), {}
    for by in OTHER_ATTENTION[dtype.name]:
        others: list[jax.Array] = []

        def extract_all(by: AttentionBy = by, others: list[jax.Array] = others) -> None:
            others.clear()
            others.append(extract(shared.params, shared.config, packed, dtype=dtype, attention=by).block_until_ready())

        _, rounds = timed(extract_all, shared.setting.rounds)
        error = relative_error(np.asarray(others[0][:, packed.distinct[sampled]].astype(jnp.float32)), residuals)
        found[f"{by} attention: seconds over XLA's"] = np.array(statistics.median(rounds) / seconds)
        found[f"{by} attention: residuals beside XLA's"] = np.array(error.max())
    return found


def _measure_torch(contender: str, shared: Shared, sampled: np.ndarray) -> Measured:
    from jtrace.benchmark.peers.forward import extract_batched, extract_one_by_one

    model, every = shared.torch_model, np.arange(len(shared.all_tokens))
    call, items = (extract_one_by_one, sampled) if contender == PUBLISHED else (extract_batched, every)
    tokens = [shared.all_tokens[i] for i in items]
    measure = timed_warm if contender == PUBLISHED else timed
    call(model, tokens[:4])
    found: list[np.ndarray] = []

    def extract_all() -> None:
        found[:] = [call(model, tokens)]

    first, rounds = measure(extract_all, shared.setting.rounds)
    if len(items) == len(every):
        shared.torch_residuals = found[0]
    residuals = found[0][:, np.searchsorted(items, sampled)]
    return Measured(first, rounds, len(items), arrays={"residuals": residuals})


CASE = Extract()
