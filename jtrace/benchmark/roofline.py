"""The limits of the device, measured, and a case's share of them (roofline model, Williams et al. 2009)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jtrace.benchmark.case import Floor

# Sides of the multiplied matrices, and bytes of the copied array.
SIDES = {"cpu": 4096}
COPIED = {"cpu": 1 << 30}
LARGE_SIDE, LARGE_COPY = 8192, 2 << 30
REPEATS = 5
# Data sheets by a part of the device kind: operations per second by dtype (dense), bytes per second.
SHEETS: dict[str, tuple[dict[str, float], float]] = {"H100": ({"bfloat16": 989e12, "float32": 67e12}, 3.35e12)}


@dataclass(frozen=True)
class Pace:
    """The pace of a device.

    Attributes:
        device: kind of the device.
        operations: floating-point operations per second of one large matrix product.
        bytes: bytes per second, read and written by one large copy.
        sheet_operations, sheet_bytes: the same by its data sheet; None where unknown.
    """

    device: str
    operations: float
    bytes: float
    sheet_operations: float | None = None
    sheet_bytes: float | None = None


@dataclass(frozen=True)
class RooflineShare:
    """A case's distance from the roofline.

    Attributes:
        operations, bytes: the floor's operations and bytes per second.
        operations_seconds, bytes_seconds: seconds that the device needs for each at its pace.
        share: the larger of these over the measured seconds; at most 1, except for errors of the pace.
        sheet_share: the same by the data sheet; None where unknown.
    """

    operations: float
    bytes: float
    operations_seconds: float
    bytes_seconds: float
    share: float
    sheet_share: float | None


def measure_pace(dtype: str, side: int | None = None, copied: int | None = None) -> Pace:
    """Measures the pace of the default device, as the best of some repeats.

    Args:
        dtype: dtype of the product.
        side: side of its square matrices; a default for the device if None.
        copied: bytes of the copied array, which are read and written; a default for the device if None.
    """
    backend, kind = jax.default_backend(), jax.devices()[0].device_kind
    side = side or SIDES.get(backend, LARGE_SIDE)
    count = (copied or COPIED.get(backend, LARGE_COPY)) // 4
    # With ones a processor saves power, and so runs faster than on other numbers.
    a, b = (jax.random.normal(key, (side, side), jnp.dtype(dtype)) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    operations = 2 * side**3 / _fastest(lambda: product(a, b))
    array = jnp.zeros(count, jnp.float32)
    plus_one = jax.jit(lambda x: x + 1)
    moved = 2 * 4 * count / _fastest(lambda: plus_one(array))
    by_dtype, sheet_bytes = next((sheet for name, sheet in SHEETS.items() if name in kind), ({}, None))
    return Pace(kind, operations, moved, by_dtype.get(dtype), sheet_bytes)


def stand(floor: Floor, seconds: float, pace: Pace) -> RooflineShare:
    """Computes the share of a case with this floor and these seconds."""
    by_operations, by_bytes = floor.operations / pace.operations, floor.bytes / pace.bytes
    sheet_share = None
    if pace.sheet_operations and pace.sheet_bytes:
        sheet_share = max(floor.operations / pace.sheet_operations, floor.bytes / pace.sheet_bytes) / seconds
    return RooflineShare(
        operations=floor.operations / seconds,
        bytes=floor.bytes / seconds,
        operations_seconds=by_operations,
        bytes_seconds=by_bytes,
        share=max(by_operations, by_bytes) / seconds,
        sheet_share=sheet_share,
    )


def _fastest(call: Callable[[], jax.Array]) -> float:
    """Times the fastest call after the first, which compiles."""
    call().block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call().block_until_ready()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
