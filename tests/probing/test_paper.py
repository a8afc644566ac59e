"""A whole trace against float64 values of another implementation, on a real model and real statements."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jtrace.checkpoints.load import load_params
from jtrace.data.loading import read_statements
from jtrace.data.statements import Statements
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.errors import InputError
from jtrace.inference.residuals import extract_residuals, pack_sets
from jtrace.probing.paper import MOST_SHOWN, paper_trace
from jtrace.probing.vectors import KINDS
from tests.bars import within
from tests.conftest import relative_error


def made_up(n=60, d=12, name="mine", seed=0):
    """Statements that are only rows, and residuals [1 + 1 layers, n, d] of which the second separates the labels."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 2)
    texts = tuple(f"statement {i}" for i in range(n))
    statements = Statements(texts, labels, name=name, source=f"{name}.csv", rows=tuple(range(2, n + 2)))
    noise = random.normal(size=(2, n, d)).astype(np.float32)
    noise[1] += 3 * labels[:, None]
    return statements, jnp.asarray(noise)


def values(trace, metric):
    return [row.value for row in trace.metrics if row.metric == metric]


def test_every_layer_gets_every_metric_with_its_n():
    statements, residuals = made_up()
    trace = paper_trace(residuals, np.arange(60), statements, [0, 1])
    assert {(row.layer, row.metric, row.n) for row in trace.metrics} == {
        (layer, metric, n)
        for layer in (0, 1)
        for metric, n in (
            ("probe_accuracy", 12),
            ("probe_auroc", 12),
            ("mi_xt", 48),
            ("mi_yt", 48),
            ("vector_norm", 30),
        )
    }
    assert {row.protocol for row in trace.metrics} == {"paper"}
    assert {kind: vectors.shape for kind, vectors in trace.vectors.items()} == {"mass_mean": (2, 12)}


@pytest.mark.slow
def test_without_metrics_vectors_and_projections_are_the_same_bit_for_bit():
    statements, residuals = made_up()
    whole, part = (paper_trace(residuals, np.arange(60), statements, [0, 1], metrics=asked) for asked in (True, False))
    assert (part.metrics, part.held_out) == ((), None)
    np.testing.assert_array_equal(part.vectors["mass_mean"], whole.vectors["mass_mean"])
    np.testing.assert_array_equal(part.distances, whole.distances)
    np.testing.assert_array_equal(part.projection.points, whole.projection.points)


def test_held_out_scores_are_of_the_test_rows_at_the_best_layer():
    """They are the scores that the accuracy counts."""
    statements, residuals = made_up()
    trace = paper_trace(residuals, np.arange(60), statements, [0, 1])
    found = trace.held_out
    np.testing.assert_array_equal(found.rows, np.arange(48, 60))
    np.testing.assert_array_equal(found.labels, statements.labels[48:])
    assert (found.dataset, found.protocol, found.layer) == (statements.name, "paper", 1)
    assert ((found.scores > 0) == found.labels).mean() == pytest.approx(max(values(trace, "probe_accuracy")))


@pytest.mark.slow
def test_projections_show_rows_of_all_the_set_in_order():
    statements, residuals = made_up(n=1000)
    shown = paper_trace(residuals, np.arange(1000), statements, [1]).projection
    assert (shown.rows[0], shown.rows[-1], len(shown.rows)) == (0, 999, MOST_SHOWN)
    np.testing.assert_array_equal(shown.labels, statements.labels[shown.rows])
    assert shown.points.shape == (1, MOST_SHOWN, 2)
    # The labels are three standard deviations apart in every feature: they part along the first axis.
    assert ((shown.points[0, :, 0] > 0) == (shown.labels == 1)).mean() > 0.95


def test_a_separating_layer_is_told_from_noise():
    statements, residuals = made_up()
    trace = paper_trace(residuals, np.arange(60), statements, [0, 1])
    noise, signal = values(trace, "probe_accuracy")
    assert noise < 0.9 < signal
    assert values(trace, "mi_yt")[1] > values(trace, "mi_yt")[0]


def test_wanted_layers_alone_equal_the_same_layers_of_all():
    statements, residuals = made_up()
    every = paper_trace(residuals, np.arange(60), statements, [0, 1])
    one = paper_trace(residuals, np.arange(60), statements, [1])
    assert list(one.metrics) == [row for row in every.metrics if row.layer == 1]


def test_distances_of_the_classes_are_those_of_each_layer_s_leading_rows():
    statements, residuals = made_up()
    found = paper_trace(residuals, np.arange(60), statements, [1, 0]).distances
    for far, layer in zip(found, (1, 0), strict=True):
        rows, labels = np.asarray(residuals[layer], np.float64)[:30], statements.labels[:30]
        assert far == pytest.approx(np.linalg.norm(rows[labels == 1].mean(0) - rows[labels == 0].mean(0)), rel=1e-5)


@pytest.mark.slow
def test_more_kinds_of_vectors_leave_all_else_as_it_is():
    statements, residuals = made_up()
    plain = paper_trace(residuals, np.arange(60), statements, [0, 1])
    every = paper_trace(residuals, np.arange(60), statements, [0, 1], kinds=tuple(KINDS))
    assert every.metrics == plain.metrics
    assert every.vectors.keys() == KINDS.keys()
    np.testing.assert_array_equal(every.vectors["mass_mean"], plain.vectors["mass_mean"])
    leading, rows = jnp.arange(60) < 30, jnp.asarray(statements.labels, jnp.float32)
    for kind, vectors in every.vectors.items():
        alone = KINDS[kind].vector(residuals[1], rows, leading)
        np.testing.assert_allclose(vectors[1], alone, rtol=1e-4, atol=1e-4, err_msg=kind)


@pytest.mark.slow
def test_rows_that_share_a_statement_read_the_same_residual():
    statements, residuals = made_up()
    members = np.arange(60) // 2
    repeated = paper_trace(residuals[:, :30], members, statements, [0, 1])
    spread = paper_trace(residuals[:, members], np.arange(60), statements, [0, 1])
    assert repeated.metrics == spread.metrics


def test_a_test_part_of_one_class_has_no_auroc():
    statements, residuals = made_up()
    labels = np.concatenate([np.arange(48) % 2, np.ones(12, int)])
    statements = Statements(statements.texts, labels, name="mine", source="mine.csv", rows=statements.rows)
    trace = paper_trace(residuals, np.arange(60), statements, [0])
    assert values(trace, "probe_auroc") == []
    assert len(values(trace, "probe_accuracy")) == 1


def test_too_few_rows_name_the_set():
    statements, residuals = made_up(n=3)
    with pytest.raises(InputError, match=r"mine\.csv"):
        paper_trace(residuals, np.arange(3), statements, [0])


@pytest.mark.slow
@pytest.mark.real
def test_smollm2_on_stereoset_equals_the_float64_reference(shared, smollm2):
    """Every bar of the design that one checkpoint can show, on all 30 layers; about a minute on two cores."""
    reference = json.loads((shared / "reference" / "smollm2_stereoset.json").read_text())["per_layer"]
    statements = read_statements(str(shared / "data" / "stereoset.csv"))
    tokens = encode(read_tokenizer(shared / "models" / "smollm2_tokenizer"), statements.texts)
    config, params = load_params(smollm2, jnp.float32)
    sets = pack_sets({statements.name: tokens}, config)
    residuals = extract_residuals(params, config, sets.packed, dtype=jnp.float32)
    trace = paper_trace(residuals, sets.members[statements.name], statements, range(config.depth))

    expected = {key: np.array([row[key] for row in reference]) for key in reference[0] if key != "vector_head"}
    test_rows = len(statements) - int(0.8 * len(statements))
    other = np.abs(np.array(values(trace, "probe_accuracy")) - expected["probe_accuracy"]) * test_rows
    # Accuracies are counts of 391 rows: less than half a row apart is the same count.
    within("SmolLM2: probe accuracy against the float64 reference", np.round(other).max() / test_rows, 1e-3)
    for metric, bar in (("mi_xt", 5e-4), ("mi_yt", 5e-4), ("vector_norm", 1e-4)):
        error = np.abs(np.array(values(trace, metric)) / expected[metric] - 1).max()
        within(f"SmolLM2: {metric} against the float64 reference", error, bar)
    head = max(
        relative_error(vector[:4], row["vector_head"])
        for vector, row in zip(trace.vectors["mass_mean"], reference, strict=True)
    )
    within("SmolLM2: first entries of the vectors", head, 1e-4)
