"""Loading beside torch's: the same bits, and what else it takes of the host's memory."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.benchmark.cases.load import CASE, HostMemory
from jtrace.benchmark.workload import BATCHED, JTRACE, PUBLISHED, Setting, Workload
from tests.conftest import GOLDENS

WEIGHTS = GOLDENS / "llama-full" / "model.safetensors"


def shared(
    contender: str, dtype: str = "float32", folder: Path = WEIGHTS.parent, sample: int | None = None
) -> Workload:
    setting = Setting(folder, folder, (), None, dtype, rounds=2, limit=None, sample=sample, new_tokens=1, prompts=1)
    return Workload(setting, contender)


def test_a_load_is_measured_in_bytes_of_files_and_leaves_the_params():
    process = shared(JTRACE)
    found = CASE.measure(JTRACE, process)
    assert len(found.rounds) == 2
    assert found.units == WEIGHTS.stat().st_size
    held = sum(value.size for value in load_file(WEIGHTS).values())
    assert (found.floor.operations, found.floor.bytes) == (0, 4 * held)
    np.testing.assert_array_equal(process.__dict__["params"]["head"], load_file(WEIGHTS)["lm_head.weight"])


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_tensor_has_the_bits_of_torchs(dtype):
    pytest.importorskip("torch")
    found = {name: CASE.measure(name, shared(name, dtype)).arrays for name in (JTRACE, PUBLISHED, BATCHED)}
    agreements = CASE.agree(found)
    bars = {agreement.name: agreement.value for agreement in agreements if agreement.bar is not None}
    assert bars == {"tensors unlike published": 0, "tensors unlike batched": 0}
    assert all(agreement.holds for agreement in agreements)


def test_one_changed_bit_or_two_exchanged_numbers_are_seen(tmp_path):
    folder = Path(shutil.copytree(WEIGHTS.parent, tmp_path / "model"))
    weights = load_file(WEIGHTS)
    changed, exchanged = weights["model.layers.1.mlp.up_proj.weight"], weights["model.embed_tokens.weight"]
    changed.view(np.uint32)[5, 3] ^= 1
    exchanged[7], exchanged[9] = exchanged[9].copy(), exchanged[7].copy()
    save_file(weights, folder / WEIGHTS.name)
    ours = CASE.measure(JTRACE, shared(JTRACE)).arrays
    (found, *_) = CASE.agree({JTRACE: ours, PUBLISHED: CASE.measure(JTRACE, shared(JTRACE, folder=folder)).arrays})
    assert found.value == 2
    assert not found.holds


@pytest.mark.torch
def test_peers_load_once_more_where_there_is_a_sample():
    pytest.importorskip("torch")
    assert len(CASE.measure(BATCHED, shared(BATCHED, sample=4)).rounds) == 1


def test_growth_of_memory_is_that_of_anonymous_pages_at_most():
    size = 64 << 20
    with HostMemory() as memory:
        block = np.ones(size, np.uint8)
        del block
        block = np.ones(size, np.uint8)
    if memory.growth is None:
        pytest.skip("this system does not tell of anonymous memory")
    assert 0.9 * size < memory.growth < 1.5 * size
    assert block[-1] == 1
