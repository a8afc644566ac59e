"""Sub-benchmark `extract`: the contenders find the same residuals, and the floor counts what slots really see."""

from pathlib import Path

import numpy as np
import pytest

from jtrace.benchmark.cases.extract import CASE, extraction_floor
from jtrace.benchmark.workload import BATCHED, JTRACE, PUBLISHED, Workload
from jtrace.inference.packing import operations_per_slot
from jtrace.inference.residuals import pack_sets
from jtrace.models.config import DecoderConfig, LayerKind, Rope
from tests.benchmark.tiny import setting_of

CONFIG = DecoderConfig(100, 8, 2, 2, 4, 16, 64, (LayerKind(Rope(1e4)),) * 3, 1e-6)


def test_a_shared_prefix_is_counted_once() -> None:
    """Slots 5, 6, 7 and 8 of 5 6 7 and 5 6 8: positions 0, 1, 2, 2, which see 1, 2, 3 and 3 slots."""
    packed = pack_sets({"set": [np.array([5, 6, 7]), np.array([5, 6, 8])]}, CONFIG).packed
    floor = extraction_floor(packed, CONFIG, itemsize=2, batch_slots=4)
    per_slot = operations_per_slot(CONFIG, 0)
    assert floor.operations == 4 * per_slot + 4 * 3 * 8 * (1 + 2 + 3 + 3)
    assert floor.bytes == 2 * (per_slot // 2 + 2 * 3 * 4 * 8)
    assert extraction_floor(packed, CONFIG, itemsize=2, batch_slots=2).bytes - floor.bytes == 2 * (per_slot // 2)


@pytest.mark.torch
def test_contenders_find_the_same_in_float32(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    setting = setting_of(tmp_path, sample=8)
    found = {name: CASE.measure(name, Workload(setting, name)) for name in (JTRACE, PUBLISHED, BATCHED)}
    assert [of.units for of in found.values()] == [50, 8, 50]
    arrays = {name: dict(of.arrays) for name, of in found.items()}
    assert arrays[JTRACE]["residuals"].shape == (4, 8, 64)
    told = CASE.agree(arrays)
    assert [of.bar for of in told] == [1e-5, 1e-5]
    assert all(of.holds for of in told)
    arrays[JTRACE]["residuals"] = arrays[JTRACE]["residuals"] * np.float32(1.0001)
    assert not any(of.holds for of in CASE.agree(arrays))


def test_bfloat16_is_held_against_torchs_own_error() -> None:
    exact = np.ones((2, 3, 4), np.float32)
    arrays = {
        JTRACE: {"residuals": exact + np.float32(0.012), "dtype": np.array("bfloat16")},
        PUBLISHED: {"residuals": exact},
        BATCHED: {"residuals": exact + np.float32(0.010)},
    }
    *told, ratio = CASE.agree(arrays)
    assert all(of.bar is None for of in told)
    assert ratio.value == pytest.approx(1.2, rel=1e-3)
    assert ratio.holds
    arrays[JTRACE]["residuals"] = exact + np.float32(0.016)
    assert not CASE.agree(arrays)[-1].holds


def test_a_later_case_finds_the_residuals(tmp_path: Path) -> None:
    shared = Workload(setting_of(tmp_path), JTRACE)
    CASE.measure(JTRACE, shared)
    assert {"residuals", "packed"} <= set(vars(shared))
