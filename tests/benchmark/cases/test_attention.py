"""Ways of attending beside the default: how far apart, and a way that cannot be had."""

from pathlib import Path

import pytest

from jtrace.benchmark.cases.attention import CASE, compare
from jtrace.benchmark.workload import JTRACE, Workload
from tests.benchmark.tiny import setting_of


def test_on_a_cpu_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert CASE.measure(JTRACE, Workload(setting_of(tmp_path), JTRACE)) is None


def test_a_way_is_held_to_the_default_s_own_error_and_a_fault_is_told(tmp_path: Path) -> None:
    """On a CPU cuDNN cannot be had, and the kernel is interpreted."""
    found = compare(Workload(setting_of(tmp_path, dtype="bfloat16"), JTRACE), ("cudnn", "pallas"))
    assert found.units == 50
    assert 1e-4 < found.arrays["error"] < 0.05
    seconds, error, fault = CASE.agree({JTRACE: found.arrays})
    assert seconds.name == "pallas: seconds over xla's"
    assert error.holds
    assert error.bar == pytest.approx(1.5 * found.arrays["error"])
    assert fault.name.startswith("cudnn fault: ")
    worse = dict(found.arrays) | {"pallas error": 2 * found.arrays["error"]}
    assert [of.holds for of in CASE.agree({JTRACE: worse})] == [True, False, True]
