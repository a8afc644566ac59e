"""Probes tested on other sets and checkpoints: planted directions are found again where they are, and only there."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from jtrace.data.splits import repeated_folds
from jtrace.data.statements import Statements
from jtrace.probing.cross_validation import held_out_scores
from jtrace.probing.raw_probes import KeptProbes, raw_probe, scores_of
from jtrace.probing.transfer import COLUMNS, Target, between_checkpoints, between_sets, targets_of
from jtrace.stats.bootstrap import row_weights
from jtrace.stats.heldout_metrics import accuracy, auroc

LAYERS, WIDTH, ROWS = [0, 2], 16, 240


# One probe


def test_a_raw_probe_scores_residuals_as_the_probe_of_standardised_features_does():
    random = np.random.default_rng(0)
    x = random.normal(3, [0.1, 1, 20, 4], (50, 4)).astype(np.float32)
    mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    weights, intercept = random.normal(size=4), np.array(0.5)
    expected = (x - mean) / scale @ weights + intercept
    (scores,) = scores_of(x, raw_probe(weights, intercept, mean, scale)[None])
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_a_feature_that_never_varied_has_no_weight():
    probe = raw_probe(np.array([2.0, 3.0]), np.array(1.0), np.array([5.0, 1.0]), np.array([0.0, 0.5]))
    np.testing.assert_allclose(probe, [0, 6, 1 - 6])
    assert probe.dtype == np.float32


@pytest.mark.parametrize("offset", [0, 100, 10_000])
def test_a_large_common_offset_costs_no_digits_of_what_tells_rows_apart(offset):
    """A float32 product of the rows as they are would be off by 1e-2 at the largest one."""
    random = np.random.default_rng(1)
    x = (random.normal(size=(200, 64)) + offset).astype(np.float32)
    mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    weights = random.normal(size=64)
    exact = (x - mean) / scale @ weights
    (scores,) = np.asarray(scores_of(x, raw_probe(weights, np.array(0.0), mean, scale)[None]), np.float64)
    np.testing.assert_allclose(scores - scores.mean(), exact - exact.mean(), atol=2e-5)
    # What all rows share is rounded once, with the intercept.
    assert abs(scores.mean() - exact.mean()) < 1e-7 * max(1, offset) * np.abs(weights).sum()


def test_residuals_in_bfloat16_are_scored_in_float32():
    x = jnp.asarray(np.random.default_rng(2).normal(300, 10, (40, 8)), jnp.bfloat16)
    probes = np.random.default_rng(3).normal(size=(2, 9)).astype(np.float32)
    scores = scores_of(x, probes)
    assert scores.dtype == jnp.float32
    expected = probes[:, :-1].astype(np.float64) @ np.asarray(x, np.float64).T + probes[:, -1:]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


# Between the sets of a checkpoint


class Model(NamedTuple):
    """Residuals of several sets at one checkpoint, and each set's probes."""

    residuals: jnp.ndarray
    members: dict[str, np.ndarray]
    targets: tuple[Target, ...]
    probes: dict[str, np.ndarray]

    def transfer(self, **how):
        """What is found, by tested set, metric and layer."""
        found = between_sets(self.residuals, self.members, self.targets, self.probes, LAYERS, **how)
        return {(metric.dataset, metric.metric, metric.layer): metric for metric in found}


def statements(name, texts, labels):
    return Statements(tuple(texts), labels, name=name, source=f"{name}.csv", rows=tuple(range(1, len(texts) + 1)))


def model(directions, strength=5.0, groups_of=2, seed=0):
    """Sets along whose direction label 1 lies by `strength` standard deviations; rows of a group are alike.

    Each set's two probes lie along its direction, a little to either side; the middle layer is not reported.
    """
    random = np.random.default_rng(seed)
    count, names = ROWS, list(directions)
    members, labels, probes, residuals = {}, {}, {}, []
    for at, (name, direction) in enumerate(directions.items()):
        labels[name] = np.arange(count) // groups_of % 2
        of_group = random.normal(size=(count // groups_of, WIDTH)).repeat(groups_of, axis=0)
        noise = random.normal(size=(count, WIDTH)) + of_group
        residuals.append(noise + strength * (labels[name][:, None] - 0.5) * direction)
        members[name] = np.arange(count) + at * count
        tilt = random.normal(size=WIDTH) / 10
        fits = [np.append(direction + side * tilt, side * 0.2) for side in (1, -1)]
        probes[name] = np.array([[fit] * len(LAYERS) for fit in fits], np.float32)
    sets = [statements(name, [f"{name} {i}" for i in range(count)], labels[name]) for name in names]
    groups = dict.fromkeys(names, np.arange(count) // groups_of)
    layers = np.stack([np.concatenate(residuals), np.full((count * len(names), WIDTH), 9.0), np.concatenate(residuals)])
    return Model(
        jnp.asarray(layers, jnp.float32),
        members,
        targets_of(sets, groups),
        probes,
    )


AXIS, OTHER = np.eye(WIDTH)[0], np.eye(WIDTH)[1]


@pytest.fixture(scope="module")
def three():
    """`safe` and `true` share a direction, `toxic` has it the other way round, `other` lies across."""
    return model({"safe": AXIS, "true": AXIS, "toxic": -AXIS, "other": OTHER})


def test_sets_that_share_a_direction_transfer_and_one_of_the_other_polarity_is_as_far_below(three):
    found = three.transfer()
    same, opposite = (found[name, "transfer_auroc:safe", 2] for name in ("true", "toxic"))
    assert same.value > 0.9
    assert opposite.value < 0.1
    assert found["true", "transfer_accuracy:safe", 2].value > 0.8
    assert found["toxic", "transfer_accuracy:safe", 2].value < 0.2


def test_an_unrelated_direction_is_at_chance_within_its_interval(three):
    metric = three.transfer()["other", "transfer_auroc:safe", 0]
    assert metric.ci_low < 0.5 < metric.ci_high
    assert metric.ci_high - metric.ci_low < 0.3


def test_there_is_a_row_for_every_ordered_pair_reported_layer_and_metric(three):
    found = three.transfer()
    names = list(three.members)
    assert set(found) == {
        (tested, f"transfer_{metric}:{trained}", layer)
        for tested in names
        for trained in names
        if tested != trained
        for metric in ("accuracy", "auroc")
        for layer in LAYERS
    }
    row = found["true", "transfer_auroc:safe", 2]
    assert (row.protocol, row.n, row.seed, row.dimension) == ("sound", ROWS, 0, "")
    assert found["true", "transfer_auroc:safe", 0].value == row.value  # the same residuals


def test_values_are_those_of_the_mean_probe(three):
    found = three.transfer()
    x, labels = np.asarray(three.residuals)[0, three.members["true"]], np.arange(ROWS) // 2 % 2
    probe = three.probes["safe"].mean(axis=0)[0]
    scores = x @ probe[:-1] + probe[-1]
    assert found["true", "transfer_auroc:safe", 0].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert found["true", "transfer_accuracy:safe", 0].value == pytest.approx(np.mean((scores > 0) == labels), abs=1e-6)


def test_a_set_alone_has_no_transfer():
    assert model({"safe": AXIS}).transfer() == {}


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others(three):
    assert three.transfer(draws=50) == three.transfer(draws=50)
    one, other = (three.transfer(draws=50, seed=seed)["true", "transfer_auroc:safe", 2] for seed in (0, 1))
    assert one.value == other.value
    assert (one.ci_low, one.ci_high) != (other.ci_low, other.ci_high)


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_intervals_are_those_of_the_exact_cluster_bootstrap(strength):
    weak = model({"a": AXIS, "b": AXIS}, strength, groups_of=4)
    metric = weak.transfer()["b", "transfer_auroc:a", 0]
    probe = weak.probes["a"].mean(axis=0)[:1]
    scores = scores_of(weak.residuals[0][weak.members["b"]], probe)
    target = weak.targets[1]
    labels, weights = jnp.asarray(target.labels), row_weights(target.groups, 1000, 0)
    low, high = np.quantile(auroc(scores, jnp.zeros(scores.shape, int), labels, weights), [0.025, 0.975])
    assert metric.ci_low == pytest.approx(low, abs=0.1 * (high - low))
    assert metric.ci_high == pytest.approx(high, abs=0.1 * (high - low))


def test_where_all_is_right_the_interval_says_how_few_groups_there_are():
    sure = model({"a": AXIS, "b": AXIS}, strength=60)
    metric = sure.transfer()["b", "transfer_accuracy:a", 0]
    assert metric.value == metric.ci_high == 1
    assert metric.ci_low == pytest.approx(0.025 ** (2 / ROWS))


# Rows that two sets share


def shared(labels=(0, 1, 0, 1), texts=("One thing.", "two THINGS", "three", "four")):
    """Two sets of four rows, of which the first set knows `one thing` and `two things`."""
    known = statements("a", ("one thing", "Two things!", "five", "six"), np.array([0, 1, 0, 1]))
    tested = statements("b", texts, np.array(labels))
    return targets_of([known, tested], {"a": np.arange(4), "b": np.arange(4)})


def test_rows_whose_words_the_probe_s_own_set_has_are_left_out():
    a, b = shared()
    np.testing.assert_array_equal(b.unseen["a"], [False, False, True, True])
    np.testing.assert_array_equal(a.unseen["b"], [False, False, True, True])


def of_two(targets, scores):
    """Transfer between two sets of four rows whose residuals are these scores."""
    residuals = jnp.asarray(np.array([[*scores, *scores]], np.float32)[..., None])
    members = {"a": np.arange(4), "b": np.arange(4, 8)}
    probes = dict.fromkeys("ab", np.array([[[1.0, 0.0]]], np.float32))
    found = between_sets(residuals, members, targets, probes, [0])
    return {(metric.dataset, metric.metric): metric for metric in found}


def test_what_is_left_out_counts_neither_as_right_nor_as_wrong():
    """The probe is wrong on both shared rows, and right on the others."""
    found = of_two(shared(), [1, -1, -1, 1])
    accuracy, area = found["b", "transfer_accuracy:a"], found["b", "transfer_auroc:a"]
    assert (accuracy.value, accuracy.n, area.value, area.n) == (1, 2, 1, 2)


def test_without_both_labels_there_is_no_auroc_and_without_rows_nothing():
    one_label = of_two(shared(labels=(0, 1, 1, 1)), [1, -1, -1, 1])
    assert [metric for dataset, metric in one_label if dataset == "b"] == ["transfer_accuracy:a"]
    nothing = of_two(shared(texts=("one thing", "two things", "five", "six")), [1, -1, -1, 1])
    assert nothing == {}


# Between checkpoints


class Run(NamedTuple):
    """Probes and activations of the checkpoints of a run, and the scores they were tabled with."""

    probes: dict[str, tuple[dict[str, KeptProbes], dict]]
    activations: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]
    folds: np.ndarray
    labels: np.ndarray

    def between(self, names=None):
        names = list(self.probes) if names is None else names
        return between_checkpoints(
            "org/llama",
            names,
            {"set": "fairness"},
            lambda name, sets: self.probes.get(name),
            lambda name, dataset: self.activations.get(name),
        )


def kept_run(directions, repeats=2, dtype=jnp.float32, offset=0.0):
    """Checkpoints whose label lies along a direction each; probes are scikit-learn's, on standardised features."""
    random = np.random.default_rng(5)
    labels = np.arange(ROWS) % 2
    folds = repeated_folds(labels, np.arange(ROWS) // 4, repeats=repeats)
    fold_of = np.zeros((repeats, ROWS), np.int8)
    for at, fold in enumerate(folds):
        fold_of[fold.repeat, fold.test] = at % 5
    probes, activations, tabled = {}, {}, {}
    for name, direction in directions.items():
        drawn = random.normal(size=(len(LAYERS), ROWS, WIDTH)) + 1.5 * (labels[:, None] - 0.5) * direction + offset
        x = np.asarray(drawn, dtype)
        fits, scores = [], []
        for fold in folds:
            for layer in x.astype(np.float32):
                scaler = StandardScaler().fit(layer[fold.train])
                z = scaler.transform(layer)
                fit = LogisticRegression().fit(z[fold.train], labels[fold.train])
                fits.append((fit.coef_[0], *fit.intercept_, scaler.mean_, scaler.scale_))
                scores.append(fit.decision_function(z))
        shape = len(folds), len(LAYERS), -1
        raw = raw_probe(*map(np.stack, zip(*fits, strict=True)))
        kept = KeptProbes(raw.reshape(shape), fold_of, labels.astype(np.int8))
        probes[name] = {"set": kept}, {"layers": LAYERS}
        activations[name] = x
        tabled[name] = np.reshape(scores, shape).astype(np.float32)
    return Run(probes, activations, tabled, fold_of.astype(np.int32), labels.astype(np.float32))


STEPS = {"step1": OTHER, "step2": AXIS, "step3": AXIS}


@pytest.fixture(scope="module")
def run():
    return kept_run(STEPS)


def value(table, trained_at, tested_at, column="accuracy", layer=2):
    row = table.query(f"trained_at == '{trained_at}' and tested_at == '{tested_at}' and layer == {layer}")
    return row[column].item()


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "offset"), [(jnp.float32, 0), (jnp.float32, 500), (jnp.bfloat16, 20)])
def test_trained_and_tested_at_one_checkpoint_it_is_what_the_table_of_metrics_says(dtype, offset):
    run = kept_run({"step1": AXIS}, dtype=dtype, offset=offset)
    table, ones = run.between(), jnp.ones((1, ROWS))
    for at, layer in enumerate(LAYERS):
        scores = held_out_scores(jnp.asarray(run.scores["step1"][:, at]), jnp.asarray(run.folds))
        (expected,) = accuracy(scores, jnp.asarray(run.labels), ones)
        # A row more or less would be 2e-3.
        assert value(table, "step1", "step1", layer=layer) == pytest.approx(float(expected), abs=1e-6)
        (expected,) = auroc(scores, jnp.asarray(run.folds), jnp.asarray(run.labels), ones)
        assert value(table, "step1", "step1", "auroc", layer) == pytest.approx(float(expected), abs=1e-5)


def test_a_probe_serves_where_the_concept_stays_and_not_where_it_was_elsewhere(run):
    table = run.between()
    assert value(table, "step2", "step3") > 0.7
    assert value(table, "step3", "step2") > 0.7
    assert abs(value(table, "step1", "step3", "auroc") - 0.5) < 0.1


def test_each_row_is_scored_by_the_fit_that_has_not_seen_it():
    """A residual is its row's number, one-hot; each fit is right on the rows held out of it, wrong on all others."""
    rows, folds = 12, np.array([np.arange(12) // 4, np.arange(12) % 3], np.int8)
    labels = np.random.default_rng(0).permutation(rows).astype(np.int8) % 2
    held_out = np.concatenate([repeat == np.arange(3)[:, None] for repeat in folds])
    weights = np.where(held_out, 1.0, -1.0) * (2 * labels - 1)
    probes = np.pad(weights, ((0, 0), (0, 1)))[:, None].astype(np.float32)
    kept = {"step1": ({"set": KeptProbes(probes, folds, labels)}, {"layers": [0]})}
    one_hot = {"step1": np.eye(rows, dtype=np.float32)[None]}
    assert value(Run(kept, one_hot, {}, folds, labels).between(), "step1", "step1", layer=0) == 1


def test_the_table_has_every_ordered_pair_and_the_agreed_columns(run):
    table = run.between()
    assert list(table.columns) == list(COLUMNS)
    pairs = {(layer, one, other) for layer in LAYERS for one in STEPS for other in STEPS}
    assert set(zip(table["layer"], table["trained_at"], table["tested_at"], strict=True)) == pairs
    same = table[["model", "protocol", "dataset", "dimension", "n"]].drop_duplicates()
    assert same.to_numpy().tolist() == [["org/llama", "sound", "set", "fairness", ROWS]]
    assert not table.isna().to_numpy().any()


def test_of_many_checkpoints_a_dozen_is_taken_evenly(run):
    many = {f"step{at}": run.probes["step2"] for at in range(34)}
    found = run._replace(probes=many, activations=dict.fromkeys(many, run.activations["step2"])).between()
    assert list(dict.fromkeys(found["tested_at"])) == [f"step{at}" for at in range(0, 34, 3)]


def test_checkpoints_that_lack_files_or_differ_from_the_last_one_are_left_out(run):
    kept, about = run.probes["step1"][0]["set"], {"layers": LAYERS}
    others = {
        "narrow": ({"set": KeptProbes(kept.probes[..., 1:], kept.folds, kept.labels)}, about),
        "other layers": ({"set": kept}, {"layers": [0, 1]}),
        "other folds": ({"set": KeptProbes(kept.probes, kept.folds[:, ::-1], kept.labels)}, about),
        "other set": ({"mine": kept}, about),
    }
    found = run._replace(probes=others | run.probes).between([*others, "nowhere", *STEPS])
    assert set(found["trained_at"]) == set(found["tested_at"]) == set(STEPS)
    less = run._replace(activations={"step3": run.activations["step3"]}).between()
    assert set(less["tested_at"]) == {"step3"}
    assert set(less["trained_at"]) == set(STEPS)


def test_without_probes_the_table_is_empty(run):
    empty = run._replace(probes={}).between(["step1"])
    assert empty.empty
    assert list(empty.columns) == list(COLUMNS)
    assert run.between([]).empty
