"""What the device does at most, measured here, and how near a case comes (roofline model, Williams et al. 2009)."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jtrace.benchmark.case import Floor

# Sides of the matrices whose product is timed, and bytes of the array that is copied.
SIDES = {"cpu": 4096}
COPIED = {"cpu": 1 << 30}
LARGE_SIDE, LARGE_COPY = 8192, 2 << 30
REPEATS = 5
# Data sheets, by what the device kind contains: operations per second by dtype (dense), bytes per second.
SHEETS: dict[str, tuple[dict[str, float], float]] = {"H100": ({"bfloat16": 989e12, "float32": 67e12}, 3.35e12)}


@dataclass(frozen=True)
class Pace:
    """A device's.

    Attributes:
        device: its kind.
        operations: floating-point operations per second of one large matrix product.
        bytes: per second, read and written by one large copy.
        sheet_operations, sheet_bytes: the same by its data sheet; None where unknown.
    """

    device: str
    operations: float
    bytes: float
    sheet_operations: float | None = None
    sheet_bytes: float | None = None


@dataclass(frozen=True)
class RooflineShare:
    """Where a case stands below the roofline.

    Attributes:
        operations, bytes: per second, of those in its floor.
        operations_seconds, bytes_seconds: that the device takes for each at its own pace.
        share: the larger of these over the seconds taken, at most 1 but for the pace's own error.
        sheet_share: the same by the data sheet; None where unknown.
    """

    operations: float
    bytes: float
    operations_seconds: float
    bytes_seconds: float
    share: float
    sheet_share: float | None


def measure_pace(dtype: str, side: int | None = None, copied: int | None = None) -> Pace:
    """The default device's, the best of some repeats each.

    Args:
        dtype: of the product.
        side: of its square matrices; a default for the device if None.
        copied: bytes of the array that is read, and as many are written; a default for the device if None.
    """
    backend, kind = jax.default_backend(), jax.devices()[0].device_kind
    side = side or SIDES.get(backend, LARGE_SIDE)
    count = (copied or COPIED.get(backend, LARGE_COPY)) // 4
    # Ones would let a processor save power, and so run faster than on numbers.
    a, b = (jax.random.normal(key, (side, side), jnp.dtype(dtype)) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    operations = 2 * side**3 / _fastest(lambda: product(a, b))
    array = jnp.zeros(count, jnp.float32)
    plus_one = jax.jit(lambda x: x + 1)
    moved = 2 * 4 * count / _fastest(lambda: plus_one(array))
    by_dtype, sheet_bytes = next((of for name, of in SHEETS.items() if name in kind), ({}, None))
    return Pace(kind, operations, moved, by_dtype.get(dtype), sheet_bytes)


def stand(floor: Floor, seconds: float, pace: Pace) -> RooflineShare:
    """Of a case with this floor that took so many seconds."""
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
    """Seconds of the fastest call after the first, which compiles."""
    call().block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call().block_until_ready()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
