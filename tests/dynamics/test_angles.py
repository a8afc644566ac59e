"""Angles of known vectors and spaces, and which pairs of checkpoints, layers and sets a model's tables compare."""

import numpy as np
import pandas as pd
import pytest

from jtrace.dynamics.angles import ANGLES, MOST_COMPARED, SUBSPACES, angles, cosine, principal_angles, subspaces
from jtrace.dynamics.trajectory import shared_layer, trajectories
from jtrace.probing.vector_files import ModelFacts, Vectors
from tests.tables import metrics_table


def test_cosines_are_those_of_known_angles():
    a = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0]], np.float32)
    b = np.array([[2, 0, 0], [0, -3, 0], [-5, 0, 0]], np.float32)
    np.testing.assert_allclose(cosine(a, b), [1, 0, -np.sqrt(0.5)], atol=1e-12)
    assert cosine(a[0], b[0]).shape == ()


def test_a_vector_of_zeros_has_the_cosine_zero_and_a_tiny_one_its_own():
    assert cosine(np.zeros(3, np.float32), np.ones(3, np.float32)) == 0
    assert cosine(np.full(3, 1e-30, np.float32), np.ones(3, np.float32)) == pytest.approx(1)


def rotated(degrees, width=50, seed=0):
    """Two spaces with these principal angles, in a random position, each under a basis of its own."""
    random = np.random.default_rng(seed)
    count = len(degrees)
    basis, _ = np.linalg.qr(random.normal(size=(width, 2 * count)))
    radians = np.radians(degrees)
    a, b = basis[:, :count], basis[:, :count] * np.cos(radians) + basis[:, count:] * np.sin(radians)
    return (random.normal(size=(count, count)) @ a.T), (random.normal(size=(count, count)) @ b.T)


def test_principal_angles_are_those_of_known_spaces():
    np.testing.assert_allclose(principal_angles(*rotated([75, 10, 40])), [10, 40, 75], atol=1e-9)


def test_small_and_right_angles_keep_their_digits():
    """The arc cosine alone would lose angles below 1e-6 degrees."""
    np.testing.assert_allclose(principal_angles(*rotated([1e-7, 1e-9, 90])), [1e-9, 1e-7, 90], rtol=1e-4)


def test_vectors_that_depend_on_others_add_nothing():
    a, b = rotated([20, 60])
    dependent = np.concatenate([a, a[:1] * 3 - a[1:], np.zeros((1, 50))]).astype(np.float32)
    np.testing.assert_allclose(principal_angles(dependent, b), [20, 60], atol=1e-3)
    assert len(principal_angles(a, np.zeros((2, 50)))) == 0
    # A line within the plane, and the plane.
    np.testing.assert_allclose(principal_angles(a, a[:1] + a[1:]), [0], atol=1e-6)


def test_short_vectors_count_by_their_direction():
    a, b = rotated([20, 60])
    np.testing.assert_allclose(principal_angles(a * np.array([[1], [1e-9]]), b), [20, 60], atol=1e-6)


WIDTH, LAYERS = 16, (0, 1, 2, 3)
LLAMA = ModelFacts("llama", WIDTH, 4)


def vectors(arrays, layers=LAYERS, model=LLAMA):
    return Vectors("", "mass_mean", arrays, layers, dict.fromkeys(arrays), model)


def turning(checkpoint):
    """Set `mine` turns by 10 degrees per unit of step, `stereoset` is at right angles to it in every layer."""
    step = int(checkpoint.rpartition("step")[2])
    mine, other = np.zeros((2, 4, WIDTH), np.float32)
    mine[:, 0], mine[:, 1] = np.cos(np.radians(10 * step)), np.sin(np.radians(10 * step))
    other[:, 2] = 1
    return vectors({"mine": mine, "stereoset": other})


@pytest.fixture(name="curve")
def _curve():
    (curve,) = trajectories(metrics_table([0, 1, 4]))
    return curve


def test_checkpoints_are_compared_at_each_set_s_best_layer(curve):
    table = angles(curve, [], turning)
    assert list(table.columns) == list(ANGLES)
    mine = table[(table["kind"] == "checkpoints") & (table["dataset"] == "mine")]
    assert list(zip(mine["checkpoint"], mine["other_checkpoint"], strict=True)) == [
        ("llama@step0", "llama@step1"),
        ("llama@step0", "llama@step4"),
        ("llama@step1", "llama@step4"),
    ]
    np.testing.assert_allclose(mine["cosine"], np.cos(np.radians([10, 40, 30])), atol=1e-6)
    assert set(mine["layer"]) | set(mine["other_layer"]) == {2}
    assert set(mine["other_dataset"]) == {"mine"}


def test_layers_are_compared_within_the_last_checkpoint_and_sets_within_each(curve):
    table = angles(curve, [], turning)
    layers = table[(table["kind"] == "layers") & (table["dataset"] == "mine")]
    assert len(layers) == 6
    assert set(layers["checkpoint"]) | set(layers["other_checkpoint"]) == {"llama@step4"}
    np.testing.assert_allclose(layers["cosine"], 1, atol=1e-6)
    sets = table[table["kind"] == "sets"]
    assert list(sets["checkpoint"]) == curve.checkpoints
    assert set(zip(sets["dataset"], sets["other_dataset"], strict=True)) == {("mine", "stereoset")}
    np.testing.assert_allclose(sets["cosine"], 0, atol=1e-6)


def test_a_chat_model_of_the_same_shape_is_compared_with_the_last_checkpoint(curve):
    def read(name):
        arrays = turning("step7").arrays
        return {
            "chat": vectors(arrays),
            "deeper": vectors(arrays, model=ModelFacts("llama", WIDTH, 8)),
            "untraced": None,
        }[name] if "step" not in name else turning(name)  # fmt: skip

    table = angles(curve, ["chat", "deeper", "untraced"], read)
    chat = table[(table["kind"] == "checkpoints") & table["other_checkpoint"].isin(["chat", "deeper", "untraced"])]
    assert list(zip(chat["dataset"], chat["checkpoint"], chat["other_checkpoint"], strict=True)) == [
        ("mine", "llama@step4", "chat"),
        ("stereoset", "llama@step4", "chat"),
    ]
    np.testing.assert_allclose(chat["cosine"], [np.cos(np.radians(30)), 1], atol=1e-6)


def test_spaces_of_all_sets_are_compared_with_the_last_checkpoint_s(curve):
    table = subspaces(curve, turning)
    assert list(table.columns) == list(SUBSPACES)
    assert set(table["layer"]) == {2}
    assert list(table["checkpoint"]) == ["llama@step0"] * 2 + ["llama@step1"] * 2
    assert set(table["other_checkpoint"]) == {"llama@step4"}
    assert list(table["number"]) == [1, 2, 1, 2]
    np.testing.assert_allclose(table["degrees"], [0, 40, 0, 30], atol=1e-4)


def test_checkpoints_without_vectors_are_passed_over(curve):
    table = angles(curve, [], lambda name: None if name.endswith("step1") else turning(name))
    assert "llama@step1" not in {*table["checkpoint"], *table["other_checkpoint"]}
    assert angles(curve, [], lambda name: None).empty
    assert subspaces(curve, lambda name: None).empty


def test_a_layer_that_a_file_lacks_has_no_row(curve):
    def of_two_layers(name):
        return vectors({dataset: array[:2] for dataset, array in turning(name).arrays.items()}, (0, 1))

    assert set(angles(curve, [], of_two_layers)["kind"]) == {"layers"}
    assert subspaces(curve, of_two_layers).empty


def test_long_curves_are_thinned():
    (curve,) = trajectories(metrics_table(range(30)))
    table = angles(curve, [], turning)
    compared = table[(table["kind"] == "checkpoints") & (table["dataset"] == "mine")]
    assert len(compared) == MOST_COMPARED * (MOST_COMPARED - 1) / 2
    assert {"llama@step0", "llama@step29"} <= {*compared["checkpoint"], *compared["other_checkpoint"]}


def test_sets_share_the_layer_that_is_best_in_the_mean():
    table = metrics_table([0, 5])
    lifted = (table["dataset"] == "mine") & (table["layer"] == 3) & (table["metric"] == "probe_accuracy")
    table.loc[lifted, "value"] += 0.15
    (curve,) = trajectories(table)
    assert shared_layer(curve.rows) == 2
    table.loc[lifted, "value"] += 0.15
    (curve,) = trajectories(table)
    assert shared_layer(curve.rows) == 3
    assert shared_layer(pd.DataFrame(columns=curve.rows.columns)) is None
