"""Trained weights are told from others by a few of their bytes."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jtrace.checkpoints.formats.weights import SafetensorsFile, open_weight_file
from jtrace.checkpoints.samples import EVERY_BYTES, FEWEST_RUNS, RUN_BYTES, sample_file, sample_places


def test_a_large_array_is_looked_at_from_its_first_value_to_its_last():
    found = sample_places(3 * EVERY_BYTES, 4)
    assert len(found) == 12 * RUN_BYTES // 4
    assert (found[0], found[-1]) == (0, 3 * EVERY_BYTES - 1)
    assert len(sample_places(1 << 16, 4)) == FEWEST_RUNS * RUN_BYTES // 4


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100])
def test_a_small_array_is_looked_at_as_a_whole(size):
    assert sample_places(size, 4).tolist() == list(range(size))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64])
def test_a_sample_holds_the_values_of_the_tensor(tmp_path, dtype):
    values = np.arange(24).reshape(3, 8).astype(dtype)
    large = np.random.default_rng(0).normal(size=(300, 400)).astype(dtype)
    save_file({"a": values, "scalar": np.array(values[1, 1]), "empty": values[:0], "large": large}, tmp_path / "x")
    with SafetensorsFile(tmp_path / "x") as file:
        assert file.sample("a") == values.tobytes()
        assert file.sample("scalar") == values[1, 1].tobytes()
        assert file.sample("empty") == b""
        places = sample_places(large.size, large.itemsize)
        assert file.sample("large") == large.reshape(-1)[places].tobytes()


@pytest.mark.torch
def test_a_strided_tensor_has_the_sample_of_its_copy(tmp_path):
    torch = pytest.importorskip("torch")
    values = torch.arange(120_000.0).reshape(300, 400)
    torch.save(
        {"turned": values.T, "copied": values.T.clone(memory_format=torch.contiguous_format)}, tmp_path / "x.bin"
    )
    with open_weight_file(tmp_path / "x.bin") as file:
        assert file.sample("turned") == file.sample("copied") != b""


def test_a_file_is_sampled_with_its_size(tmp_path):
    for name, content in (("empty", b""), ("a", b"abc"), ("b", b"abd"), ("longer", b"abc" * 10**5)):
        (tmp_path / name).write_bytes(content)
    assert len({sample_file(path) for path in tmp_path.iterdir()}) == 4
