"""Orbax checkpoints: what is saved comes back, whole, cast, cut or refused."""

import asyncio
import gc
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from jtrace.checkpoints.load import load_params, params_bytes, read_config_json
from jtrace.checkpoints.orbax import (
    is_store,
    load_store,
    read_checkpoint,
    save_store,
    stage_checkpoint,
    stored_dtype,
)
from jtrace.errors import InputError
from jtrace.models.sharding import DATA, MODEL, Layout, parse_mesh
from tests.cases import few
from tests.conftest import GOLDENS

SOURCE = GOLDENS / "gpt_neox-full"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A golden checkpoint as an Orbax one."""
    _, params = load_params(SOURCE, jnp.float32)
    save_store(tmp_path / "store", read_config_json(SOURCE), params)
    return tmp_path / "store"


def assert_equal(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), found, expected)


@pytest.mark.parametrize("dtype", few([jnp.bfloat16, jnp.float32]))
@pytest.mark.parametrize("depth", few([None, 1]))
def test_a_store_reads_as_the_folder_it_was_made_from(store, dtype, depth):
    config, params = read_checkpoint(store, dtype, depth)
    expected_config, expected = read_checkpoint(SOURCE, dtype, depth)
    assert config == expected_config
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert_equal(params, expected)


@pytest.mark.parametrize("dtype", few([jnp.float32, jnp.bfloat16, jnp.float16]))
def test_the_dtype_is_kept(tmp_path, dtype):
    _, params = load_params(SOURCE, dtype)
    save_store(tmp_path / "store", read_config_json(SOURCE), params)
    assert stored_dtype(tmp_path / "store") == dtype
    assert_equal(load_store(tmp_path / "store", dtype)[1], params)


def test_a_hugging_face_folder_is_no_store(store):
    assert is_store(store)
    assert not is_store(SOURCE)


def test_params_that_the_config_does_not_describe_are_refused(store):
    values = read_config_json(store) | {"intermediate_size": 44}
    (store / "config.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"'blocks/mlp/down/weight' has shape .*; config.json asks for \[3, 24, 44\]"):
        load_store(store, jnp.float32)


def test_values_that_are_not_finite_are_refused_by_name(tmp_path):
    _, params = load_params(SOURCE, jnp.float32)
    params["embedding"] = params["embedding"].at[3, 3].set(jnp.nan)
    save_store(tmp_path / "store", read_config_json(SOURCE), params)
    with pytest.raises(InputError, match="NaN or infinite values as float32 in param 'embedding'"):
        load_store(tmp_path / "store", jnp.float32)


def test_a_damaged_store_is_refused_in_one_line(store):
    for file in (store / "params").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as an Orbax checkpoint") as error:
        load_store(store, jnp.float32)
    assert "\n" not in str(error.value)


def files_of(store: Path) -> list[Path]:
    """Files of the params by size, the arrays first."""
    return sorted(
        (path for path in (store / "params").rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size
    )


def test_orbax_logs_nothing_of_a_damaged_store(store, caplog):
    files = {path.name: path for path in files_of(store)}
    files["_CHECKPOINT_METADATA"].write_text("]\x1b[2J")
    load_store(store, jnp.float32)
    files["_METADATA"].write_text("[]")
    with pytest.raises(InputError, match="its index or the head of an array is damaged"):
        load_store(store, jnp.float32)
    assert caplog.records == []


def test_what_waits_for_a_read_that_failed_is_not_logged(caplog):
    def throw_away(fault: Exception) -> list[str]:
        caplog.clear()
        loop = asyncio.new_event_loop()
        loop.create_future().set_exception(fault)
        loop.close()
        gc.collect()
        return [str(record.exc_info[1]) for record in caplog.records]

    assert throw_away(ValueError('DATA_LOSS: Error reading "head/c/0" in OCDBT database at local file "/a"')) == []
    assert throw_away(ValueError("Error opening driver [tensorstore_spec='{}']")) == []
    assert throw_away(ValueError("another's")) == ["another's"]


# Tasks of reads that Orbax has left are thrown away later, and by other threads.
READ_DAMAGED = """
import gc, sys, time
from pathlib import Path
import jax.numpy as jnp
from jtrace.checkpoints.orbax import load_store
from jtrace.errors import InputError

store, arrays = Path(sys.argv[1]), Path(sys.argv[2])
content = arrays.read_bytes()
for at in range(0, len(content), len(content) // 12):
    arrays.write_bytes(content[:at] + content[at + 100:])
    try:
        load_store(store, jnp.float32)
    except InputError as error:
        print(error)
    gc.collect()
time.sleep(0.5)
"""


@pytest.mark.slow
def test_nothing_is_printed_of_damaged_arrays(store):
    command = [sys.executable, "-c", READ_DAMAGED, str(store), str(files_of(store)[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) >= 10


def test_a_store_is_not_written_over_something(store):
    _, params = load_params(SOURCE, jnp.float32)
    with pytest.raises(InputError, match="exists already"):
        save_store(store, read_config_json(SOURCE), params)


@pytest.mark.parametrize("depth", few([None, 1]))
@pytest.mark.parametrize("mesh", few([None, "data:1,model:1"]))
def test_params_staged_by_a_thread_are_those_of_the_folder_it_was_made_from(store, depth, mesh):
    layout = parse_mesh(mesh, jax.devices()[:1]) if mesh else None
    _, expected = read_checkpoint(SOURCE, jnp.bfloat16, depth)
    with ThreadPoolExecutor() as threads:
        staged = threads.submit(stage_checkpoint, store, jnp.bfloat16, depth, layout).result()
    assert staged.nbytes == params_bytes(staged.config, jnp.bfloat16, layout)
    assert_equal(staged.placed(), expected)
    assert staged.nbytes == 0
    assert_equal(load_store(store, jnp.bfloat16, depth, layout)[1], expected)


def test_a_layout_that_does_not_fit_is_refused(store):
    with pytest.raises(InputError, match="a model axis of 3 does not divide its 4 heads"):
        stage_checkpoint(store, jnp.float32, layout=Layout(AbstractMesh((1, 3), (DATA, MODEL))))
