"""What statistics take of memory: as XLA plans it, and refused before it cannot be had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import read_config_json
from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.models.families import read_model_config
from jtrace.probing import memory
from jtrace.probing.memory import StatisticsMemory, check_memory, statistics_memory
from jtrace.probing.paper import _input_smoother, _measured_layer, _Rows
from jtrace.probing.sound_set import SoundConfig
from jtrace.sweep.config import SweepConfig
from tests.conftest import GOLDENS


def planned(rows: int, width: int) -> int:
    """Bytes that XLA plans for a layer's statistics, R of the input among them."""

    def shaped(*shape: int, dtype: type = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    train = int(0.8 * rows)
    numbers = [shaped(count, dtype=jnp.int32) for count in (rows, train, rows - train, min(rows, 400))]
    of_set = _Rows(numbers[0], shaped(rows), numbers[1], numbers[2], shaped(rows, dtype=jnp.bool_), numbers[3])
    residuals, smoother = shaped(2, rows, width), shaped(train, train)
    arguments = residuals, shaped(dtype=jnp.int32), (of_set, smoother)
    layer = jax.jit(_measured_layer, static_argnums=3).lower(*arguments, None).compile()
    first = _input_smoother.lower(residuals, of_set).compile()
    matrix = 4 * train**2
    return max(plan.memory_analysis().temp_size_in_bytes + matrix for plan in (layer, first))


@pytest.mark.slow
def test_the_matrices_are_those_that_are_planned():
    memory = StatisticsMemory(statements=4000, rows=4000, row_bytes=4 * 2 * 64).bytes
    assert 0.8 * memory < planned(4000, 64) < memory


def test_residuals_of_distinct_statements_and_the_largest_set_count():
    config, _ = read_model_config(read_config_json(GOLDENS / "llama-full"), "config.json")
    sets = [
        Statements(tuple(f"text {i % (count - 1)}" for i in range(count)), np.arange(count) % 2, name=name)
        for name, count in (("small", 10), ("large", 20))
    ]
    found = statistics_memory(config, sets, "bfloat16")
    assert found == StatisticsMemory(statements=19, rows=20, row_bytes=2 * config.depth * config.width)


@pytest.mark.parametrize("most_in_matrices", [None, 400])
@pytest.mark.parametrize("copies", [1, 4])
def test_as_many_rows_fit_as_it_says(copies, most_in_matrices):
    there = 24_000_000_000
    rows = StatisticsMemory(1, 1, 30 * 576 * 4, copies, most_in_matrices).fitting_rows(there)
    fits, does_not = (StatisticsMemory(n, n, 30 * 576 * 4, copies, most_in_matrices).bytes for n in (rows, rows + 1))
    assert fits <= there < does_not


def test_sound_alone_has_no_matrix_of_all_rows():
    assert SweepConfig(protocols=("sound",)).most_in_matrices == SoundConfig().information_rows
    assert SweepConfig(protocols=("paper", "sound")).most_in_matrices is None
    alone, both = (StatisticsMemory(50_000, 50_000, 30 * 576 * 4, 1, most).bytes for most in (400, None))
    assert alone < 4e9 < 20e9 < both


def test_more_rows_than_memory_holds_are_refused_with_the_number_that_fit(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 24_000_000_000)
    check_memory("smollm2", StatisticsMemory(40_000, 40_000, 30 * 576 * 4))
    with pytest.raises(
        InputError, match=r"smollm2: residuals of 60,000 .* 60,000 rows, take 36\.4 GB of memory, 24\.0 GB"
    ):
        check_memory("smollm2", StatisticsMemory(60_000, 60_000, 30 * 576 * 4))
    monkeypatch.setattr(memory, "available_bytes", lambda: None)  # an accelerator that does not tell
    check_memory("smollm2", StatisticsMemory(60_000, 60_000, 30 * 576 * 4))
