"""What a device does at most, and where a case stands below it."""

import pytest

from jtrace.benchmark.case import Floor
from jtrace.benchmark.roofline import Pace, measure_pace, stand


def test_a_case_of_many_operations_is_held_up_by_them() -> None:
    standing = stand(Floor(operations=100, bytes=10), seconds=4, pace=Pace("a device", operations=50, bytes=20))
    assert (standing.operations, standing.bytes) == (25, 2.5)
    assert (standing.operations_seconds, standing.bytes_seconds) == (2, 0.5)
    assert standing.share == 0.5
    assert standing.sheet_share is None


def test_a_case_of_many_bytes_is_held_up_by_those() -> None:
    pace = Pace("a device", operations=50, bytes=20, sheet_operations=1000, sheet_bytes=40)
    standing = stand(Floor(operations=10, bytes=100), seconds=10, pace=pace)
    assert standing.share == 0.5
    assert standing.sheet_share == 0.25


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_pace_is_measured(dtype: str) -> None:
    pace = measure_pace(dtype, side=128, copied=1 << 16)
    assert pace.device
    assert pace.operations > 0
    assert pace.bytes > 0
    assert pace.sheet_bytes is None
