"""A tensor is told from another by a sample of it."""

import ml_dtypes
import numpy as np
import pytest

from jtrace.checkpoints.samples import EVERY_BYTES, FEWEST_RUNS, RUN_BYTES, sample


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int64])
def test_a_small_tensor_is_its_own_sample(dtype):
    values = np.arange(60).reshape(3, 20).astype(dtype)
    assert sample(values).tobytes() == values.tobytes()
    assert sample(values[:0]).size == 0
    assert sample(values[0, 0]).tolist() == [0]


def test_a_large_tensor_is_sampled_from_its_first_value_to_its_last():
    values = np.arange(3 * EVERY_BYTES, dtype=np.float32)
    found = sample(values)
    assert found.size == 12 * RUN_BYTES // 4
    assert (found[0], found[-1]) == (values[0], values[-1])
    assert sample(values[: 1 << 16]).size == FEWEST_RUNS * RUN_BYTES // 4


def test_a_strided_tensor_has_the_sample_of_its_copy():
    values = np.random.default_rng(0).normal(size=(2000, 300))
    assert sample(values.T).tobytes() == sample(values.T.copy()).tobytes()
