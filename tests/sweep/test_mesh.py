"""Many devices, in one process or two, give what one device gives.

JAX has one device in the tests' own process. This file, run as a script with eight fake ones, measures what the tests
below look at; run twice with two each, it is one mesh over two processes.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints import load
from jtrace.checkpoints.audit import fingerprint
from jtrace.checkpoints.load import load_params, params_bytes
from jtrace.checkpoints.orbax import read_checkpoint, save_store, stage_checkpoint
from jtrace.data.statements import Statements
from jtrace.inference.packing import pack
from jtrace.inference.residuals import compiled_memory, extract_residuals
from jtrace.models.families import read_model_config
from jtrace.models.sharding import Layout, parse_mesh
from jtrace.pretraining.step import initial_params
from jtrace.probing.paper import SetTrace, paper_trace
from tests.bars import within
from tests.conftest import GOLDENS, ROOT, relative_error, with_devices
from tests.models.suite_configs import MEMBERS

pytestmark = pytest.mark.slow

GROUPED, NEOX, STORE = "llama-grouped-tied", "gpt_neox-full", "olmo2-store"  # the last is an Orbax checkpoint
EXPERTS, FUSED, TRANSPOSED = "olmoe-full", "phi3-full", "gpt2-full"
MESHES = (
    *((GROUPED, "data:8"), (GROUPED, "model:2"), (NEOX, "data:2,model:4"), (STORE, "model:4,data:2")),
    *((EXPERTS, "data:2,model:4"), (FUSED, "model:2"), (TRANSPOSED, "model:4")),
)
ROWS = 200


def statements() -> tuple[Statements, list[np.ndarray]]:
    """Made-up rows and their tokens, of which the last two tell something of the label."""
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(ROWS) % 2)
    tokens = [
        np.append(random.integers(0, 50, random.integers(1, 12)), random.integers(0, 8, 2) + label) for label in labels
    ]
    texts = tuple(f"statement {i}" for i in range(ROWS))
    return Statements(texts, labels, name="mine", source="mine.csv", rows=tuple(range(2, ROWS + 2))), tokens


def checkpoints(out: Path) -> dict[str, Path]:
    """A grouped and a fused model, and an Orbax checkpoint whose first weight is −0.0, with norms of all queries."""
    values = json.loads((GOLDENS / "olmo2-full" / "config.json").read_text()) | {"vocab_size": 64}
    params = initial_params(read_model_config(values, "test")[0], 0)
    save_store(out / STORE, values, params | {"embedding": params["embedding"].at[0, 0].set(-0.0)})
    return {name: GOLDENS / name for name in (GROUPED, NEOX, EXPERTS, FUSED, TRANSPOSED)} | {STORE: out / STORE}


def devices_of(text: str) -> list[jax.Device]:
    return jax.devices()[: int(np.prod([int(part.partition(":")[2]) for part in text.split(",")]))]


def residuals_of(config, params, layout: Layout | None) -> jax.Array:
    return extract_residuals(
        params, config, pack(statements()[1], 64), dtype=jnp.float32, batch_slots=512, layout=layout
    )


def trace_of(config, params, layout: Layout | None) -> tuple[np.ndarray, SetTrace, str]:
    made_up, tokens = statements()
    residuals = residuals_of(config, params, layout)
    trace = paper_trace(residuals, pack(tokens, 64).distinct, made_up, range(config.depth), layout=layout)
    return np.asarray(residuals), trace, fingerprint(params).digest


def differences(found: tuple[np.ndarray, SetTrace, str], expected: tuple[np.ndarray, SetTrace, str]) -> dict[str, Any]:
    """What the design has bars for, at the worst layer."""

    def values(trace: SetTrace, name: str) -> np.ndarray:
        return np.array([row.value for row in trace.metrics if row.metric == name])

    def apart(name: str) -> float:
        return float(np.abs(values(found[1], name) / values(expected[1], name) - 1).max())

    tested = ROWS - int(0.8 * ROWS)
    other = np.abs(values(found[1], "probe_accuracy") - values(expected[1], "probe_accuracy")) * tested
    vectors = zip(found[1].vectors["mass_mean"], expected[1].vectors["mass_mean"], strict=True)
    return {
        "residuals": max(map(relative_error, found[0], expected[0])),
        "vectors": max(relative_error(*pair) for pair in vectors),
        "mi_xt": apart("mi_xt"),
        "mi_yt": apart("mi_yt"),
        "decisions": float(other.max() / tested),
        "digest": found[2] == expected[2],
    }


def staged_and_read(folder: Path, layout: Layout | None) -> dict[str, Any]:
    """Whether the way over the host gives the same params, and what of them is there on the way."""
    config, read = read_checkpoint(folder, jnp.bfloat16, 2, layout)
    staged = stage_checkpoint(folder, jnp.bfloat16, 2, layout)
    devices = {device for param in staged.params.values() for buffer in param.buffers for device in buffer.devices()}
    buffers = [id(buffer) for param in staged.params.values() for buffer in param.buffers]
    before = staged.nbytes
    placed = staged.placed()
    same = jax.tree.map(lambda a, b: a.sharding == b.sharding and np.array_equal(a, b), placed, read)
    return {
        "same": all(jax.tree.leaves(same)),
        "on the host": devices == {jax.local_devices(backend="cpu")[0]},
        "bytes": [before, staged.nbytes, params_bytes(config, jnp.bfloat16, layout)],
        "copied": not {id(leaf) for leaf in jax.tree.leaves(placed)} <= set(buffers),
        "distinct": sum(leaf.nbytes for leaf in jax.tree.leaves(read)),
    }


def amber() -> dict[str, Any]:
    """Amber-7B as its repository has it, of which no weight exists here."""
    config, _ = read_model_config(MEMBERS["LLM360/Amber"][0], "amber")
    packed = pack([np.random.default_rng(i).integers(0, 32000, 60) for i in range(1000)], 256)
    layout = parse_mesh("data:4,model:2", jax.devices())
    planned = compiled_memory(config, packed, dtype=jnp.bfloat16, layout=layout)
    return {name: getattr(planned, name) for name in (*planned.__dataclass_fields__, "total")}


def measure(out: Path) -> None:
    """In one process of eight devices."""
    folders, alone, found = checkpoints(out), {}, {}
    for name, text in MESHES:
        if name not in alone:
            alone[name] = trace_of(*read_checkpoint(folders[name], jnp.float32), None)
            np.save(out / f"{name}.npy", alone[name][0])
        layout = parse_mesh(text, devices_of(text))
        traced = trace_of(*read_checkpoint(folders[name], jnp.float32, layout=layout), layout)
        found[f"{name} {text}"] = differences(traced, alone[name]) | staged_and_read(folders[name], layout)
    found["one device"] = staged_and_read(folders[NEOX], None)
    found["amber"] = amber()
    (out / "found.json").write_text(json.dumps(found))


def take_part(out: Path, address: str, process: int) -> None:
    """In one of two processes of two devices each."""
    jax.distributed.initialize(address, num_processes=2, process_id=process)
    if process == 0:  # a process may read what the other does not: nobody waits for anybody
        read_checkpoint(out / STORE, jnp.float32)
    config, params = read_checkpoint(
        out / STORE, jnp.float32, layout=(layout := parse_mesh("data:2,model:2", jax.devices()))
    )
    residuals, trace, digest = trace_of(config, params, layout)
    found = {
        "rows over processes": relative_error(residuals, np.load(out / f"{STORE}.npy")),
        "values": [row.value for row in trace.metrics],
        "digest": digest,
    }
    layout = parse_mesh("model:4", jax.devices())
    with mock.patch.object(load, "_place", wraps=load._place) as place:
        config, params = read_checkpoint(out / NEOX, jnp.float32, layout=layout)
    residuals = residuals_of(config, params, layout)
    found |= {
        "params over processes": relative_error(residuals, np.load(out / f"{NEOX}.npy")),
        "copied": sum(call.args[1].nbytes for call in place.mock_calls),
        "own": params_bytes(config, jnp.float32, layout),
        "whole": params_bytes(config, jnp.float32),
    }
    (out / f"process{process}.json").write_text(json.dumps(found))


def script(devices: int, *arguments: object) -> subprocess.Popen[str]:
    # Quick to compile: what is compared is compiled alike.
    flags = f"{with_devices(devices)} --xla_llvm_disable_expensive_passes=true"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finished(*processes: subprocess.Popen[str]) -> None:
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "\n".join(said)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mesh")


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Any]:
    finished(script(8, folder))
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize(("name", "text"), MESHES)
def test_a_mesh_gives_what_one_device_gives(measured, name, text):
    found = measured[f"{name} {text}"]
    within("mesh against one device: residuals", found["residuals"], 1e-5)
    within("mesh against one device: vectors", found["vectors"], 1e-4)
    within("mesh against one device: I(X;T)", found["mi_xt"], 5e-4)
    within("mesh against one device: I(Y;T)", found["mi_yt"], 5e-4)
    within("mesh against one device: probe decisions", found["decisions"], 1e-3)
    assert found["digest"]


@pytest.mark.parametrize(("name", "text"), MESHES)
def test_params_are_staged_on_the_host_once_and_then_placed(measured, name, text):
    found = measured[f"{name} {text}"]
    assert found["same"]
    assert found["on the host"]
    # One copy of each distinct piece, as foretold, and nothing of it left.
    assert found["bytes"] == [found["distinct"], 0, found["distinct"]]


def test_what_is_staged_for_the_host_itself_is_not_copied(measured):
    assert measured["one device"]["same"]
    assert not measured["one device"]["copied"]


def test_amber_7b_s_memory_is_known_before_a_weight_exists(measured):
    found, width, mlp, depth, vocabulary = measured["amber"], 4096, 11008, 32, 32000
    split = depth * (4 * width * width + 3 * width * mlp) + 2 * vocabulary * width
    norms = (2 * depth + 1) * width
    assert found["params"] == 2 * (split // 2 + norms)
    assert found["unread"] == 2 * (vocabulary * width // 2 + width)
    residuals = 2 * depth * 1000 * width
    batch = found["arguments"] - (found["params"] - found["unread"]) - residuals
    assert 0 < batch < 1e5
    assert found["outputs"] < 1e3  # the residuals are given back in place
    # More would mean that a block's weights are gathered; the CPU has all of a device's share as float32 besides.
    assert found["temporaries"] < 2 * found["params"] + 3e9
    print("Amber-7B on data:4,model:2, bytes on one device:", found)


@pytest.fixture(scope="module")
def together(measured, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found on one mesh over both."""
    (folder / NEOX).symlink_to(GOLDENS / NEOX)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    finished(*(script(2, folder, address, number) for number in range(2)))
    return [json.loads((folder / f"process{number}.json").read_text()) for number in range(2)]


def test_a_mesh_over_two_processes_gives_both_what_one_device_gives(together):
    for process in together:
        for what in ("rows over processes", "params over processes"):
            within(f"mesh against one device: residuals, {what}", process[what], 1e-5)
    first, second = together
    assert first["values"] == second["values"]
    assert first["digest"] == second["digest"]


def test_a_process_reads_the_bytes_of_its_own_devices_alone(together):
    for process in together:
        assert process["copied"] == process["own"]
        assert process["own"] < 0.75 * process["whole"]  # two of four shares of what is split; embeddings are not


def test_a_mesh_of_one_device_changes_nothing():
    """In the tests' own process, where shapes are checked."""
    config, params = load_params(GOLDENS / GROUPED, jnp.float32)
    layout = parse_mesh("data:1", jax.devices()[:1])
    expected = trace_of(config, params, None)
    found = trace_of(*load_params(GOLDENS / GROUPED, jnp.float32, layout=layout), layout)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1].metrics == expected[1].metrics
    assert found[2] == expected[2]


if __name__ == "__main__":
    folder_given, *other = sys.argv[1:]
    take_part(Path(folder_given), other[0], int(other[1])) if other else measure(Path(folder_given))
