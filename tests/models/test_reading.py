"""Pooling over a statement's path through a packed tree, against plain means and maxima of each statement alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.inference.packing import pack, under
from jtrace.inference.residuals import extract
from jtrace.models.families import read_model_config
from jtrace.models.reading import POOLINGS, Read, ReadSlots, paths_of, pooled
from tests.conftest import relative_error
from tests.goldens.variants import VARIANTS

RANDOM = np.random.default_rng(0)
STEM = RANDOM.integers(0, 50, 12)
# Some share beginnings, one is another's beginning, one stands alone; the first token is none of their own.
STATEMENTS = [np.concatenate([[1], STEM[:shared], RANDOM.integers(0, 50, n)]) for shared, n in
              ((0, 1), (5, 3), (12, 0), (12, 9), (3, 6), (0, 14))]  # fmt: skip


def marks(ids):
    return np.arange(len(ids)) > 0


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("width", [16, 24, 64])
def test_reads_are_of_each_statement_s_own_tokens_however_they_are_packed(pooling, width):
    packed = pack([under(ids, marks(ids)) for ids in STATEMENTS], max(width, max(map(len, STATEMENTS))))
    values = RANDOM.normal(size=(packed.rows, packed.width, 7)).astype(np.float32)
    paths = paths_of(jnp.asarray(packed.reads), jnp.asarray(packed.ends), jnp.asarray(packed.conditions > 0))
    computed = np.asarray(pooled(jnp.asarray(values), ReadSlots(jnp.asarray(packed.reads), paths), pooling))
    for i, ids in enumerate(STATEMENTS):
        distinct = packed.distinct[i]
        row = packed.row_of[distinct]
        read = int(np.flatnonzero(packed.read_of[row] == distinct)[0])
        own = values[row, packed.paths[distinct]][marks(ids)].astype(np.float64)
        expected = {"last": own[-1], "mean": own.mean(axis=0), "max": own.max(axis=0)}[pooling]
        assert relative_error(computed[row, read], expected) < 1e-6


def test_pooled_reads_without_marks_of_own_tokens_are_refused():
    config, packed = read_model_config(VARIANTS["llama-full"], "test")[0], pack(STATEMENTS, 64)
    with pytest.raises(ValueError, match="pooled reads need statements' own tokens"):
        extract({}, config, packed, [Read("resid", "mean")], dtype=jnp.float32)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_nothing_of_its_own_is_zero_and_no_nan(pooling):
    slots = ReadSlots(jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2, 4), bool))
    assert not np.asarray(pooled(jnp.ones((1, 4, 3)), slots, pooling)).any()


def test_a_mean_of_bfloat16_is_rounded_once():
    values = jnp.asarray(RANDOM.normal(size=(1, 300, 5)), jnp.bfloat16)
    slots = ReadSlots(jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1, 300), bool))
    exact = np.asarray(values.astype(jnp.float32), np.float64).mean(axis=1)
    computed = pooled(values, slots, "mean")
    assert computed.dtype == jnp.bfloat16
    np.testing.assert_array_equal(computed[:, 0], jnp.asarray(exact, jnp.bfloat16))
