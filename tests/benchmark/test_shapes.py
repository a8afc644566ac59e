"""Random weights in a known shape: read by jtrace, in shards, no two layers alike."""

import itertools
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from jtrace.benchmark.shapes import SHAPES, write_shape
from jtrace.checkpoints.load import load_params

TINY = SHAPES["tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shape") / "tiny"
    write_shape(folder, TINY)
    return folder


def test_the_folder_is_read_with_its_shape(folder: Path) -> None:
    config, params = load_params(folder, jnp.float32)
    assert (config.depth, config.width, config.heads, config.mlp_width) == (4, 64, 4, 176)
    assert params["embedding"].shape == (512, 64)


def test_layers_are_in_several_files_and_differ(folder: Path) -> None:
    placed = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(placed.values())) == TINY.depth + 1
    weights = []
    for layer in range(TINY.depth):
        name = f"model.layers.{layer}.self_attn.q_proj.weight"
        with safe_open(folder / placed[name], "np") as file:
            weights.append(file.get_tensor(name))
    assert all((a != b).any() for a, b in itertools.pairwise(weights))
    np.testing.assert_array_equal(weights[3].ravel(), np.roll(weights[0].ravel(), 3))
    assert np.std(weights[0]) == pytest.approx(64**-0.5, rel=0.05)


def test_the_large_shape_is_ambers() -> None:
    amber = SHAPES["amber-7b"]
    per_layer = 4 * amber.width**2 + 3 * amber.width * amber.mlp_width
    assert amber.depth * per_layer + 2 * amber.vocab_size * amber.width == pytest.approx(6.74e9, rel=1e-3)
