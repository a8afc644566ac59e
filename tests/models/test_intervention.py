"""The edit of the residual: what each operator leaves of it, and that nothing is exactly nothing."""

from operator import itemgetter
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.models.decoder import Decoder, Output, Slots
from jtrace.models.intervention import Intervention, edited
from jtrace.models.reading import Read
from jtrace.steering.vector import Condition, SteeringVector, edit_of
from tests.bars import within
from tests.conftest import GOLDENS

DEPTH, WIDTH = 3, 24
VALUES = np.random.default_rng(0).normal(size=(DEPTH, WIDTH)).astype(np.float32)
VECTOR = SteeringVector(VALUES, tuple(range(DEPTH)), "step1", "mine")
RESIDUAL = jnp.asarray(3 * np.random.default_rng(1).normal(size=(2, 5, WIDTH)), jnp.float32)
UNDER_1 = jnp.ones((2, 5), jnp.int32)


def steered(how, strength, residual=RESIDUAL, condition=UNDER_1, values=VALUES):
    """Layer 0 under one condition, in float64."""
    edit = edit_of(SteeringVector(values, (0, 1, 2), "step1", "mine"), [Condition((0,), strength)], how)
    return np.asarray(jax.jit(edited)(residual, jax.tree.map(lambda part: part[0], edit), condition), np.float64)


def along(h, vector):
    """Signed length of the projection."""
    return h @ (vector / np.linalg.norm(vector))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("how", ["add", "add_keep_norm", "project_out"])
def test_strength_0_keeps_every_bit(how, dtype):
    residual = RESIDUAL.astype(dtype)
    np.testing.assert_array_equal(steered(how, 0.0, residual), residual.astype(jnp.float32))


@pytest.mark.parametrize("how", ["add", "add_keep_norm", "project_out", "clamp"])
def test_condition_0_keeps_every_bit(how):
    np.testing.assert_array_equal(steered(how, 3.0, condition=0 * UNDER_1), RESIDUAL)


@pytest.mark.parametrize("strength", [-2.0, 0.5, 8.0])
def test_add_is_the_published_sum(strength):
    np.testing.assert_allclose(steered("add", strength), RESIDUAL + strength * VALUES[0], atol=1e-5)


@pytest.mark.parametrize("strength", [-2.0, 0.5, 8.0])
def test_add_keep_norm_points_where_the_sum_does_and_is_as_long_as_before(strength):
    h, total = np.asarray(RESIDUAL, np.float64), RESIDUAL + strength * VALUES[0]
    found = steered("add_keep_norm", strength)
    before, after = np.linalg.norm(h, axis=-1), np.linalg.norm(found, axis=-1)
    within("add_keep_norm, norm", np.abs(after / before - 1).max(), 1e-5)
    expected = total * (before / np.linalg.norm(total, axis=-1))[..., None]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_project_out_at_1_leaves_no_projection_and_all_the_rest():
    h, found = np.asarray(RESIDUAL, np.float64), steered("project_out", 1.0)
    share = np.abs(along(found, VALUES[0])) / np.linalg.norm(h, axis=-1)
    within("project_out at 1, projection left, share of the norm", share.max(), 1e-5)
    rest = h - along(h, VALUES[0])[..., None] * VALUES[0] / np.linalg.norm(VALUES[0])
    np.testing.assert_allclose(found, rest, atol=1e-5)


def test_project_out_takes_as_much_as_its_strength_says():
    before = along(np.asarray(RESIDUAL, np.float64), VALUES[0])
    for strength, share in ((0.5, 0.5), (2.0, -1.0), (-1.0, 2.0)):
        np.testing.assert_allclose(along(steered("project_out", strength), VALUES[0]), share * before, atol=1e-5)


@pytest.mark.parametrize("strength", [-1.5, 1e-3, 2.0])
def test_clamp_sets_the_projection_and_leaves_the_rest(strength):
    h, found = np.asarray(RESIDUAL, np.float64), steered("clamp", strength)
    length = np.linalg.norm(VALUES[0])
    error = np.abs(along(found, VALUES[0]) - strength * length) / np.linalg.norm(h, axis=-1)
    within("clamp, projection, share of the norm", error.max(), 1e-5)
    unit = VALUES[0] / length
    np.testing.assert_allclose(
        found - along(found, VALUES[0])[..., None] * unit, h - along(h, VALUES[0])[..., None] * unit, atol=1e-5
    )


def test_slots_of_one_batch_take_different_operators_strengths_and_vectors():
    singles = [("add", 2.0, 0), ("add_keep_norm", -1.0, 1), ("project_out", 1.0, 2), ("clamp", 0.5, 0)]
    edits = [edit_of(VECTOR, [Condition((layer,), strength)], how) for how, strength, layer in singles]
    tables = [jax.tree.map(itemgetter(layer), edit) for edit, (_, _, layer) in zip(edits, singles, strict=True)]
    nothing = jax.tree.map(lambda part: part[:1], tables[0])
    together = jax.tree.map(
        lambda first, *rest: jnp.concatenate([first, *(part[1:] for part in rest)]), nothing, *tables
    )
    condition = jnp.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    found = edited(RESIDUAL, together, condition)
    alone = [RESIDUAL, *(edited(RESIDUAL, table, UNDER_1) for table in tables)]
    for row, slot in np.ndindex(2, 5):
        np.testing.assert_array_equal(found[row, slot], alone[int(condition[row, slot])][row, slot])


@pytest.mark.parametrize("how", ["add", "add_keep_norm", "project_out", "clamp"])
def test_a_vector_or_a_residual_of_zeros_makes_no_nan(how):
    np.testing.assert_array_equal(steered(how, 2.0, values=np.zeros_like(VALUES)), RESIDUAL)
    assert np.isfinite(steered(how, 2.0, residual=jnp.zeros_like(RESIDUAL))).all()


@pytest.fixture(scope="module")
def residuals():
    """Residuals of every layer and slot of two rows under an intervention, in a tiny Llama."""
    config, params = load_params(GOLDENS / "llama-full", jnp.float32)
    tokens = np.random.default_rng(2).integers(0, 61, (2, 9)).astype(np.int32)
    positions, ends = np.tile(np.arange(9), (2, 1)), np.full((2, 9), 9)
    slots = Slots(*map(jnp.asarray, (tokens, positions, ends)))

    @jax.jit
    def forward(intervention):
        output = Decoder(config).apply({"params": params}, slots, slots.positions, intervention)
        return cast(Output, output).reads[Read()]

    def under(edit, condition=1):
        return np.asarray(forward(None if edit is None else Intervention(edit, jnp.full((2, 9), condition))))

    return under


@pytest.mark.parametrize("how", ["add", "add_keep_norm", "project_out"])
def test_strength_0_equals_the_unsteered_model_bit_for_bit_in_every_layer(residuals, how):
    found = residuals(edit_of(VECTOR, [Condition((0, 1, 2), 0.0)], how))
    np.testing.assert_array_equal(found, residuals(None))


def test_several_layers_are_projected_out_at_once(residuals):
    plain, found = residuals(None), residuals(edit_of(VECTOR, [Condition((0, 1, 2), 1.0)], "project_out"))
    for layer in range(DEPTH):
        share = np.abs(along(found[layer], VALUES[layer])) / np.linalg.norm(plain[layer], axis=-1)
        within("project_out at 1, projection left, share of the norm", share.max(), 1e-5)


def test_several_layers_are_clamped_at_once(residuals):
    found = residuals(edit_of(VECTOR, [Condition((0, 2), -1.5)], "clamp"))
    for layer in (0, 2):
        error = np.abs(along(found[layer], VALUES[layer]) / np.linalg.norm(VALUES[layer]) + 1.5)
        within("clamp in several layers, of |v|", error.max(), 1e-5)


def test_layers_before_the_steered_one_are_left_alone_and_it_is_steered_at_its_output(residuals):
    plain, found = residuals(None), residuals(edit_of(VECTOR, [Condition((1,), 2.0)]))
    np.testing.assert_array_equal(found[0], plain[0])
    np.testing.assert_allclose(found[1], plain[1] + 2 * VALUES[1], atol=1e-5)
    assert np.abs(found[2] - plain[2]).max() > 0.1
