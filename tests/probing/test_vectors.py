"""Steering vectors against float64, and the files that keep them."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

from jtrace.errors import InputError
from jtrace.probing.vectors import (
    KINDS,
    ModelFacts,
    class_distance,
    mass_mean_vector,
    random_vector,
    read_vectors,
    shuffled_labels,
    whitened_vector,
)
from tests.bars import within
from tests.conftest import relative_error

every_kind = pytest.mark.parametrize("kind", KINDS)


def problem(n=200, d=12, offset=0.0, share=0.5):
    """Features of unequal spread that share noise, labels they depend on, and the leading rows."""
    random = np.random.default_rng(0)
    labels = (random.random(n) < 0.4).astype(np.float32)
    x = random.normal(size=(n, d)) @ (np.eye(d) + 0.3 * random.normal(size=(d, d))) * np.geomspace(0.5, 5, d)
    x[:, ::3] += 1.5 * labels[:, None]
    return (x + offset).astype(np.float32), labels, np.arange(n) < share * n


def made(kind, x, labels, leading):
    return np.asarray(KINDS[kind].vector(*map(jnp.asarray, (x, labels, leading))))


def spread_along(x, direction):
    unit = direction / np.linalg.norm(direction)
    return unit * (x @ unit).std(ddof=1)


def mean_difference(x, labels, leading):
    return x[(labels == 1) & leading].mean(0) - x[(labels == 0) & leading].mean(0)


def whitened(x, labels, leading):
    scale = x.std(axis=0, ddof=1)
    z = x / scale
    centred = np.concatenate([z[rows] - z[rows].mean(0) for rows in ((labels == 1) & leading, (labels == 0) & leading)])
    covariance, _ = ledoit_wolf(centred, assume_centered=True)
    return np.linalg.solve(covariance, mean_difference(z, labels, leading)) / scale


def probe(x, labels, leading):
    scale = x.std(axis=0, ddof=1)
    z = (x - x.mean(0)) / scale
    return LogisticRegression(tol=1e-9, max_iter=100_000).fit(z[leading], labels[leading]).coef_[0] / scale


def pca(x, labels, leading):
    pairs = zip(x[(labels == 1) & leading], x[(labels == 0) & leading], strict=False)
    first = np.linalg.svd(np.stack([one - zero for one, zero in pairs]))[2][0]
    return first * np.sign(first @ mean_difference(x, labels, leading))


def shuffled(x, labels, leading):
    return mean_difference(x, np.asarray(shuffled_labels(jnp.asarray(labels), jnp.asarray(leading))), leading)


REFERENCES = {"mass_mean": mean_difference, "whitened": whitened, "probe": probe, "pca": pca, "shuffled": shuffled}


@every_kind
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize(("n", "d", "share"), [(200, 12, 0.5), (200, 12, 1.0), (80, 150, 0.5)])
def test_equals_float64(kind, n, d, share, offset):
    x, labels, leading = problem(n, d, offset, share)
    exact = x.astype(np.float64)
    expected = spread_along(exact, REFERENCES[kind](exact, labels, leading))
    within(f"{kind} vectors against float64", relative_error(made(kind, x, labels, leading), expected), 1e-4)


@every_kind
def test_its_length_is_the_spread_of_all_rows_along_it(kind):
    x, labels, leading = problem()
    vector = made(kind, x, labels, leading).astype(np.float64)
    assert np.linalg.norm(vector) == pytest.approx((x @ vector).std(ddof=1) / np.linalg.norm(vector), rel=1e-5)


@every_kind
def test_it_points_to_label_one_and_turns_with_the_labels(kind):
    x, labels, leading = problem()
    vector = made(kind, x, labels, leading)
    if kind != "shuffled":
        assert vector @ mean_difference(x, labels, leading) > 0
    turned = made(kind, x, 1 - labels, leading)
    assert relative_error(turned, -vector) <= 1e-4


@every_kind
def test_only_the_spread_depends_on_rows_that_do_not_lead(kind):
    x, labels, leading = problem()
    vector, other = (made(kind, x, flipped, leading) for flipped in (labels, np.where(leading, labels, 1 - labels)))
    assert relative_error(other, vector) <= 1e-5


def test_the_plain_norm_is_the_distance_of_the_class_means():
    x, labels, leading = problem(offset=100.0)
    exact = mean_difference(x.astype(np.float64), labels, leading)
    assert float(class_distance(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(leading))) == pytest.approx(
        np.linalg.norm(exact), rel=1e-5
    )


def test_the_published_vector_by_hand():
    x, labels = jnp.asarray([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 3.0]]), jnp.asarray([0.0, 0.0, 1.0, 1.0])
    vector = mass_mean_vector(x, labels, jnp.ones(4, bool))
    np.testing.assert_allclose(vector, [np.std([0, 0, 4, 4], ddof=1), 0], atol=1e-6)


@every_kind
@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.tile([[1.0, 2.0, 7.0], [3.0, 4.0, 7.0]], (10, 1)), id="equal class means"),
        pytest.param(np.full((20, 3), 5.0), id="nothing varies"),
        pytest.param(np.zeros((20, 300)), id="nothing at all, N < D"),
    ],
)
def test_degenerate_rows_give_zero_not_nan(kind, x):
    # Both labels have the same rows in the same order: only a shuffle can part them.
    labels = np.tile(np.float32([0, 0, 1, 1]), 5)
    vector = made(kind, x.astype(np.float32), labels, np.ones(20, bool))
    assert np.isfinite(vector).all()
    if kind != "shuffled" or not x.std(axis=0).any():
        np.testing.assert_array_equal(vector, 0)


def test_classes_that_are_a_point_each_are_told_apart_by_the_line_between():
    labels = (np.arange(20) % 2).astype(np.float32)
    x = np.outer(labels, [1.0, 0.0]).astype(np.float32)
    vector = made("whitened", x, labels, np.ones(20, bool))
    np.testing.assert_allclose(vector, [labels.std(ddof=1), 0], atol=1e-6)


def test_whitening_finds_the_direction_that_shared_noise_hides_from_the_means():
    random = np.random.default_rng(0)
    labels = (np.arange(1000) % 2).astype(np.float32)
    noise = 5 * random.normal(size=1000)
    x = np.column_stack([labels + noise, noise]) + 0.05 * random.normal(size=(1000, 2))
    arrays = [jnp.asarray(a) for a in (x.astype(np.float32), labels, np.arange(1000) < 500)]

    def separated(vector):
        scores = x @ np.asarray(vector)
        middle = (scores[labels == 1].mean() + scores[labels == 0].mean()) / 2
        return ((scores > middle) == (labels == 1)).mean()

    assert separated(mass_mean_vector(*arrays)) < 0.6
    assert separated(whitened_vector(*arrays)) > 0.99


def test_rows_pair_in_file_order_and_what_is_left_over_is_not_used():
    x = np.array([[1, 0], [0, 0], [9, 0], [0, 9], [5, 5]], np.float32)
    labels = np.array([1, 0, 0, 1, 1], np.float32)
    first = np.linalg.svd([[1, 0], [-9, 9]])[2][0]
    towards = np.sign(first @ mean_difference(x, labels, np.ones(5, bool)))
    expected = spread_along(x.astype(np.float64), first * towards)
    assert relative_error(made("pca", x, labels, np.ones(5, bool)), expected) <= 1e-5


def test_shuffling_keeps_the_leading_rows_counts_and_all_other_rows():
    _, labels, leading = problem()
    found = np.asarray(shuffled_labels(jnp.asarray(labels), jnp.asarray(leading)))
    other = np.asarray(shuffled_labels(jnp.asarray(labels), jnp.asarray(leading), seed=1))
    assert found[leading].sum() == labels[leading].sum()
    np.testing.assert_array_equal(found[~leading], labels[~leading])
    # Of two labels with shares p and 1 − p, 2p(1 − p) ≈ half the rows change.
    assert 0.3 < (found != labels)[leading].mean() < 0.7
    assert 0.3 < (found != other)[leading].mean() < 0.7


def test_random_vectors_have_the_norms_alone_and_each_layer_its_own_direction():
    vector = np.random.default_rng(5).normal(size=(4, 500)).astype(np.float32)
    vector[3] = 0
    drawn = random_vector(vector, seed=0)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(vector, axis=1), rtol=1e-5)
    cosines = np.corrcoef(np.concatenate([vector[:3], drawn[:3]]))[np.triu_indices(6, 1)]
    assert np.abs(cosines).max() < 0.2
    np.testing.assert_array_equal(random_vector(vector, seed=0), drawn)
    np.testing.assert_array_equal(random_vector(vector[:2], seed=0), drawn[:2])
    assert (random_vector(vector, seed=1)[:3] != drawn[:3]).all()


ABOUT = {
    "kind": "pca",
    "checkpoint": "org--tiny@step2",
    "layers": [1, 4],
    "label_one_is_good": {"mine": True, "other": None},
    "model": {"model_type": "llama", "width": 3, "depth": 5},
}
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(path, arrays, about=None):
    save_file(
        arrays, path, None if about is None else {"jtrace": about if isinstance(about, str) else json.dumps(about)}
    )
    return path


def test_a_file_tells_what_its_vectors_are(tmp_path):
    found = read_vectors(write(tmp_path / "a.safetensors", {"mine": ROWS, "other": -ROWS}, ABOUT))
    assert (found.checkpoint, found.kind, found.layers) == ("org--tiny@step2", "pca", (1, 4))
    assert found.one_is_good == {"mine": True, "other": None}
    assert found.model == ModelFacts("llama", 3, 5)
    np.testing.assert_array_equal(found.arrays["other"], -ROWS)


def test_a_file_of_an_earlier_release_holds_mass_mean_vectors_of_an_unknown_model(tmp_path):
    about = {key: value for key, value in ABOUT.items() if key not in ("kind", "model", "label_one_is_good")}
    found = read_vectors(write(tmp_path / "a.safetensors", {"mine": ROWS}, about))
    assert (found.kind, found.model, found.one_is_good) == ("mass_mean", None, {"mine": None})
    assert (found.checkpoint, found.layers) == ("org--tiny@step2", (1, 4))


def test_plain_vectors_are_the_same_directions_in_their_plain_norms(tmp_path):
    rows = np.array([[3.0, 0, 4], [0, 0, 0]], np.float32)
    path = write(
        tmp_path / "a.safetensors", {"mine": rows}, ABOUT | {"kind": "mass_mean", "plain_norm": {"mine": [10, 2]}}
    )
    plain = read_vectors(path).plain(path)
    np.testing.assert_allclose(plain.arrays["mine"], [[6, 0, 8], [0, 0, 0]], rtol=1e-6)
    assert (plain.kind, plain.layers) == ("plain", (1, 4))
    older = write(tmp_path / "b.safetensors", {"mine": rows}, ABOUT)
    with pytest.raises(
        InputError, match=r"b\.safetensors: holds no plain norm, which --vector_scale=plain needs; take"
    ):
        read_vectors(older).plain(older)
    damaged = write(tmp_path / "c.safetensors", {"mine": rows}, ABOUT | {"plain_norm": {"mine": [1.0]}})
    with pytest.raises(InputError, match="metadata 'jtrace' is damaged"):
        read_vectors(damaged)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_a_file_from_elsewhere_holds_a_row_per_layer_from_0_on(tmp_path, dtype):
    found = read_vectors(write(tmp_path / "mine.v2.safetensors", {"any": ROWS.astype(dtype)}))
    assert (found.checkpoint, found.kind, found.layers) == ("mine.v2", None, (0, 1))
    assert (found.model, found.one_is_good) == (None, {"any": None})
    assert found.arrays["any"].dtype == np.float32
    np.testing.assert_array_equal(found.arrays["any"], ROWS)


@pytest.mark.parametrize(
    ("arrays", "about", "cause"),
    [
        ({"mine": ROWS[0]}, None, r"array 'mine' is float32 \[3\]"),
        ({"mine": ROWS.astype(np.int32)}, None, r"array 'mine' is int32 \[2, 3\]"),
        ({"mine": ROWS[:0]}, None, r"array 'mine' is float32 \[0, 3\]"),
        ({"mine": ROWS * np.nan}, None, "array 'mine' has NaN or infinite values"),
        ({"mine": ROWS, "other": ROWS[:1]}, None, r"arrays of shapes \[\[1, 3\], \[2, 3\]\]"),
        ({}, None, "holds no array"),
        ({"mine": ROWS}, "{", "cannot be read as vectors"),
        ({"mine": ROWS}, "[1]", "metadata 'jtrace' is damaged"),
        ({"mine": ROWS}, ABOUT | {"model": {"width": 3}}, "metadata 'jtrace' is damaged"),
        ({"mine": ROWS}, ABOUT | {"layers": [1]}, r"names layers \[1\] for 2 rows"),
        ({"mine": ROWS}, ABOUT | {"layers": [1, 1]}, r"names layers \[1, 1\] for 2 rows"),
        ({"mine": ROWS}, ABOUT | {"layers": [0, 5]}, r"layer 5, width 3"),
        ({"mine": ROWS[:, :2]}, ABOUT, r"layer 4, width 2"),
    ],
)
def test_what_holds_no_vectors_is_refused_in_one_line(tmp_path, arrays, about, cause):
    path = write(tmp_path / "a.safetensors", {name: np.ascontiguousarray(rows) for name, rows in arrays.items()}, about)
    with pytest.raises(InputError, match=cause) as error:
        read_vectors(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"x" * 100, None])
def test_a_damaged_or_missing_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors: (cannot be read|not found)"):
        read_vectors(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_vectors(tmp_path)
