"""The audit: equal weights, and weights that do not lie where their steps say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jtrace.checkpoints.audit import (
    AuditedCheckpoint,
    WeightFingerprint,
    audit,
    fingerprint,
    out_of_place,
    same_weights,
)
from jtrace.checkpoints.load import load_params
from tests.conftest import GOLDENS


def trajectory(steps, seed=0, drift=1.0):
    """Fingerprints along a random walk from an initialisation, with a drift: what pre-training looks like."""
    random = np.random.default_rng(seed)
    times = np.sqrt(np.asarray(steps, np.float64))
    towards = random.normal(size=(5, 128))
    path, weights = [], random.normal(size=(5, 128))
    for before, now in zip([0, *times[:-1]], times, strict=True):
        weights = weights + (now - before) * (drift * towards + random.normal(size=(5, 128))) / 100
        path.append(weights)
    norms = dict.fromkeys("abcde", 1.0)
    return [
        (f"step{step}", WeightFingerprint(f"digest of {step}, {seed}", norms, weights.astype(np.float32)))
        for step, weights in zip(steps, path, strict=True)
    ]


GRID = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 40000, 3000), 143000]


def test_a_fingerprint_survives_json():
    _, params = load_params(GOLDENS / "llama-full", jnp.float32)
    found = fingerprint(params)
    again = WeightFingerprint.from_json(found.to_json())
    assert (again.digest, again.norms) == (found.digest, found.norms)
    np.testing.assert_array_equal(again.slices, found.slices)


def test_norms_are_those_of_the_embedding_and_the_first_block():
    _, params = load_params(GOLDENS / "llama-full", jnp.float32)
    norms = fingerprint(params).norms
    assert norms["embedding"] == pytest.approx(np.linalg.norm(params["embedding"]), rel=1e-6)
    assert norms["mlp/up/weight"] == pytest.approx(np.linalg.norm(params["blocks"]["mlp"]["up"]["weight"][0]), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-full", "gpt_neox-full", "olmo-full", "olmo2-full", "qwen3-full"])
def test_every_family_has_one_and_the_depth_that_is_read_does_not_change_it(name):
    prints = {fingerprint(load_params(GOLDENS / name, jnp.float32, depth)[1]).digest for depth in (None, 1)}
    assert len(prints) == 1


def test_a_change_of_any_sampled_param_changes_the_digest():
    _, params = load_params(GOLDENS / "llama-full", jnp.float32)
    digests = {fingerprint(params).digest}
    for part, name in (("attention", "q"), ("attention", "o"), ("mlp", "up"), ("mlp", "down")):
        changed = jax.tree.map(lambda leaf: leaf, params)
        changed["blocks"][part][name]["weight"] = params["blocks"][part][name]["weight"] + 1e-3
        digests.add(fingerprint(changed).digest)
    digests.add(fingerprint(params | {"embedding": params["embedding"] + 1e-3}).digest)
    assert len(digests) == 6


def traced(prints, model="org/model", prefix="step", revision=None):
    return [
        AuditedCheckpoint(f"{model}@{prefix}{name[4:]}", model, revision or f"{prefix}{name[4:]}", int(name[4:]), found)
        for name, found in prints
    ]


def test_equal_weights_under_different_names_are_named():
    prints = trajectory(GRID)
    assert same_weights(traced(prints)) == []
    (warning,) = same_weights(traced([*prints, ("step7", prints[4][1])]))
    assert warning.startswith("org/model@step8, org/model@step7 (2 names) hold the same weights")


def test_names_of_one_step_and_steps_without_training_are_rightly_equal():
    """Pythia's first step has learning rate 0, and its `main` is step 143000."""
    prints = trajectory(GRID)
    pythia = "EleutherAI/pythia-160m"
    moved = [("step0", prints[1][1]), *prints[1:]]
    main = traced(prints[-1:], pythia, revision="main")
    assert same_weights([*traced(moved, pythia), *main]) == []
    assert len(same_weights(traced(moved, "org/model"))) == 1


def test_stages_parallel_runs_and_models_are_trajectories_apart():
    """Steps restart with a stage, and ingredients go on from one checkpoint side by side."""
    first, second, third, other = (trajectory([1, 10, 100, 1000, 9000], seed) for seed in (1, 2, 3, 4))
    run = [
        *traced(first, prefix="stage1-step"),
        *traced(second, prefix="stage2-ingredient1-step"),
        *traced(third, prefix="stage2-ingredient2-step"),
        *traced(other, model="org/other"),
    ]
    assert audit(run) == []
    mixed = traced([x for pair in zip(first, second, strict=True) for x in pair])
    assert audit(mixed) != []


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(0, 143_000), min_size=1, max_size=30, unique=True).map(sorted),
    seed=st.integers(0, 1000),
    drift=st.floats(0, 3),
)
def test_an_honest_trajectory_raises_no_warning(steps, seed, drift):
    assert out_of_place(trajectory(steps, seed, drift)) == []


@pytest.mark.parametrize("first", [0, 1, 5, 12, 20, len(GRID) - 3])
@pytest.mark.parametrize("length", [1, 3])
def test_revisions_that_serve_weights_of_the_end_are_found(first, length):
    prints = trajectory(GRID)
    # Not the very same weights as the last checkpoint, but near them.
    random = np.random.default_rng(1)
    stretch = range(first, min(first + length, len(GRID) - 1))
    for i in stretch:
        near = prints[-1][1].slices + 0.01 * random.normal(size=(5, 128)).astype(np.float32)
        prints[i] = (prints[i][0], WeightFingerprint(f"other {i}", prints[i][1].norms, near))
    warnings = out_of_place(prints)
    if first + length >= len(GRID) - 2:
        # At the end of pre-training its own weights are near the last ones anyway.
        return
    if first == 0 and length > 1:
        assert warnings  # where the wrong ones come first, either side of the jump may be named
        return
    (warning,) = warnings
    which = prints[first][0] if length == 1 else f"{prints[stretch[0]][0]} to {prints[stretch[-1]][0]}"
    assert warning.startswith(f"{which}: the weights jump away and back here")
    assert "nearest to step143000" in warning


def test_a_last_revision_that_serves_early_weights_is_found():
    prints = trajectory(GRID)
    early = prints[4][1].slices + np.float32(1e-3)
    prints[-1] = ("step143000", WeightFingerprint("other", prints[-1][1].norms, early))
    (warning,) = out_of_place(prints)
    assert warning.startswith("step143000: the weights jump away")
    assert "nearest to step8" in warning
