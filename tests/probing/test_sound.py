"""Protocol `sound` on generated residuals whose answers are known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jtrace.data.statements import Statements
from jtrace.errors import InputError
from jtrace.probing.sound import probe_scores, sound_trace
from jtrace.probing.sound_metrics import baseline_metrics
from jtrace.probing.sound_set import SoundConfig, sound_set
from jtrace.probing.text_baseline import text_scores

CONFIG = SoundConfig(permutations=40, draws=200, information_rows=60)
LAYERS, WIDTH, N = 3, 12, 160


def statements(n=N, groups=None, labels=None):
    labels = np.tile([0, 1], n // 2) if labels is None else np.asarray(labels)
    groups = tuple(f"g{i // 2}" for i in range(n)) if groups is None else groups
    texts = tuple(f"statement {i // 2} of colour {'abcdefg'[i % 7]}" for i in range(n))
    return Statements(texts, labels, groups, name="made", source="made.csv", rows=tuple(range(2, n + 2)))


def residuals(labels, seed=0, strength=(0.0, 0.6, 3.0)):
    """Layer 0 knows nothing, layer 2 nearly everything; rows of a pair share most of what they are."""
    random = np.random.default_rng(seed)
    shared = np.repeat(random.normal(size=(LAYERS, len(labels) // 2, WIDTH)), 2, axis=1)
    x = shared + random.normal(size=(LAYERS, len(labels), WIDTH))
    x[:, :, 0] += np.asarray(strength)[:, None] * (2 * np.asarray(labels) - 1)
    return jnp.asarray(x, jnp.float32)


def trace(x, of, config=CONFIG, layers=(0, 1, 2), random_init=None):
    made = sound_set(of, config)
    members = np.arange(len(of))
    scores = random_init if random_init is not None else np.zeros((len(layers), 2, config.repeats, len(of)), np.float32)
    text = text_scores(of, made.folds)
    found = sound_trace(x, members, made, text, scores, layers)
    table = pd.DataFrame([*found.metrics, *baseline_metrics(made, text, layers)])
    return found, table


@pytest.fixture(scope="module")
def traced():
    of = statements()
    return trace(residuals(of.labels), of)


@pytest.mark.slow
def test_held_out_scores_are_of_all_rows_at_the_best_layer(traced):
    found, table = traced
    accuracies = table[table["metric"] == "probe_accuracy"].set_index("layer")["value"]
    one = found.held_out
    assert (one.protocol, one.layer) == ("sound", accuracies.idxmax())
    np.testing.assert_array_equal(one.rows, np.arange(len(one.labels)))
    # The table counts accuracies of each repeat; here is their mean.
    assert ((one.scores > 0) == one.labels).mean() == pytest.approx(accuracies.max(), abs=0.1)


def value(table, layer, metric, column="value"):
    (found,) = table.loc[(table["layer"] == layer) & (table["metric"] == metric), column]
    return found


def test_every_row_names_its_protocol_and_seed_and_has_no_nan(traced):
    _, table = traced
    assert set(table["protocol"]) == {"sound"}
    assert set(table["seed"]) == {0}
    assert table["value"].notna().all()
    assert (table["ci_low"].isna() == table["ci_high"].isna()).all()
    within_its_interval = table.dropna(subset="ci_low")
    within_its_interval = within_its_interval[~within_its_interval["metric"].str.endswith("_null")]
    assert (within_its_interval["ci_low"] <= within_its_interval["value"] + 1e-6).all()
    assert (within_its_interval["value"] <= within_its_interval["ci_high"] + 1e-6).all()
    assert not table.duplicated(["layer", "metric"]).any()


def test_probes_find_what_was_planted_and_nothing_else(traced):
    _, table = traced
    accuracy = [value(table, layer, "probe_accuracy") for layer in range(3)]
    assert abs(accuracy[0] - 0.5) < 0.15
    assert accuracy[0] < accuracy[1] < accuracy[2]
    assert value(table, 2, "probe_accuracy", "ci_low") > 0.9
    assert value(table, 2, "mass_mean_auroc") > 0.95
    assert value(table, 2, "probe_ece") < 0.15


def test_a_probe_that_knows_stands_apart_from_all_baselines(traced):
    _, table = traced
    for gain in ("gain_over_text", "gain_over_random_init", "selectivity"):
        assert value(table, 2, gain, "ci_low") > 0.2, gain
        assert value(table, 0, gain, "ci_low") < 0.1, gain
    # A classifier of texts that does worse than a coin is no line to hold a probe against.
    line = max(value(table, 2, "text_accuracy"), value(table, 2, "majority_accuracy"), 0.5)
    assert value(table, 2, "gain_over_text") == pytest.approx(value(table, 2, "probe_accuracy") - line, abs=1e-6)
    assert value(table, 1, "majority_accuracy") == pytest.approx(0.5)


def test_the_bound_on_information_is_label_entropy_less_cross_entropy(traced):
    _, table = traced
    loss, bound = value(table, 2, "probe_log_loss"), value(table, 2, "mi_yt_bound")
    assert bound == pytest.approx(np.log(2) - loss, abs=1e-5)
    assert 0.3 < bound <= np.log(2)
    assert value(table, 0, "mi_yt_bound", "ci_low") < 0


def test_information_stands_beside_its_null(traced):
    _, table = traced
    # Layer 0 is X itself; with no label in it, its rows are exchangeable.
    assert value(table, 0, "mi_xt_p") == pytest.approx(1 / 41)
    assert value(table, 0, "mi_yt_p") > 0.02
    assert value(table, 2, "mi_yt_p") == pytest.approx(1 / 41)
    assert value(table, 2, "mi_yt") > value(table, 2, "mi_yt_null", "ci_high")
    for layer in range(3):
        excess = value(table, layer, "mi_yt") - value(table, layer, "mi_yt_null")
        assert value(table, layer, "mi_yt_excess") == pytest.approx(excess, abs=1e-6)


def test_the_chosen_layer_is_the_one_that_knows(traced):
    _, table = traced
    row = table[table["metric"] == "chosen_layer_accuracy"]
    assert row["layer"].tolist() == [2]
    assert value(table, 2, "chosen_layer_gain", "ci_low") > 0.2
    assert row["value"].item() == pytest.approx(value(table, 2, "probe_accuracy"), abs=0.02)


def test_kept_probes_give_the_scores_they_were_judged_by(traced):
    found, _ = traced
    of = statements()
    x, made = np.asarray(residuals(of.labels))[2], sound_set(of, CONFIG)
    probes = found.probes
    right = 0
    for at, fold in enumerate(made.folds):
        z = (x[fold.test] - probes.means[at, 2]) / probes.scales[at, 2]
        right += np.sum((z @ probes.weights[at, 2] + probes.intercepts[at, 2] > 0) == of.labels[fold.test])
    assert right / len(of) == pytest.approx(value(traced[1], 2, "probe_accuracy"), abs=1e-6)


def test_a_seed_decides_everything(traced):
    of = statements()
    again = trace(residuals(of.labels), of)
    pd.testing.assert_frame_equal(traced[1], again[1])
    np.testing.assert_array_equal(traced[0].probes.weights, again[0].probes.weights)
    _, other = trace(residuals(of.labels), of, dataclasses.replace(CONFIG, seed=1))
    assert set(other["seed"]) == {1}
    assert value(other, 1, "probe_log_loss") != value(traced[1], 1, "probe_log_loss")


@pytest.mark.slow
def test_repeats_and_inner_folds_are_settings(traced):
    of = statements()
    _, table = trace(residuals(of.labels), of, dataclasses.replace(CONFIG, repeats=2, inner_folds=2, folds=3))
    assert abs(value(table, 2, "probe_accuracy") - value(traced[1], 2, "probe_accuracy")) < 0.05


def test_a_layer_is_traced_alike_alone_and_among_others(traced):
    of = statements()
    _, alone = trace(residuals(of.labels), of, layers=(1,))
    for metric in ("probe_accuracy", "mi_xt", "mi_yt_p", "probe_log_loss"):
        assert value(alone, 1, metric) == value(traced[1], 1, metric)


def test_a_random_network_that_knows_as_much_leaves_no_gain():
    of = statements()
    x, made = residuals(of.labels), sound_set(of, CONFIG)
    scores = probe_scores(x, np.arange(N), made, (0, 1, 2))
    assert scores.shape == (3, 1, N)
    _, table = trace(x, of, random_init=np.stack([scores, scores], axis=1))
    assert value(table, 2, "random_init_accuracy") == value(table, 2, "probe_accuracy")
    assert value(table, 2, "gain_over_random_init") == 0
    # Even two that agree everywhere might differ on other groups.
    assert value(table, 2, "gain_over_random_init", "ci_low") < 0 < value(table, 2, "gain_over_random_init", "ci_high")


@pytest.mark.slow
def test_initialisations_that_differ_widen_the_interval_of_what_is_gained_on_them():
    of = statements()
    x, made = residuals(of.labels), sound_set(of, CONFIG)
    alike = probe_scores(x, np.arange(N), made, (0, 1, 2))
    other = np.where(np.random.default_rng(0).random(alike.shape) < 0.1, -alike, alike)
    widths, values = [], []
    for inits in ([alike, alike, alike], [alike, other, other]):
        _, table = trace(x, of, random_init=np.stack(inits, axis=1))
        low, high = (value(table, 2, "gain_over_random_init", end) for end in ("ci_low", "ci_high"))
        widths.append(high - low)
        values.append(value(table, 2, "random_init_accuracy"))
    right = [np.mean((scores[2, 0] > 0) == of.labels) for scores in (alike, other)]
    assert values == pytest.approx([right[0], (right[0] + 2 * right[1]) / 3])
    assert widths[1] > 1.5 * widths[0]


def test_the_control_task_is_scored_where_last_words_recur(traced):
    found, table = traced
    (row,) = [one for one in found.metrics if (one.metric, one.layer) == ("selectivity", 2)]
    assert row.n == N  # seven colours end all statements
    assert abs(value(table, 2, "control_accuracy") - 0.5) < 0.2  # no layer holds the colour
    assert value(table, 2, "selectivity") == pytest.approx(
        value(table, 2, "probe_accuracy") - value(table, 2, "control_accuracy"), abs=1e-6
    )
    alone = dataclasses.replace(statements(), texts=tuple(f"statement {i // 2} ends in w{i}" for i in range(N)))
    _, table = trace(residuals(alone.labels), alone)
    assert not {"control_accuracy", "selectivity"} & set(table["metric"])


def test_constant_and_duplicated_features_give_defined_values():
    of = statements()
    x = np.array(residuals(of.labels))
    x[:, :, 1] = 7.0
    x[:, :, 2] = x[:, :, 0]
    x[1] = 3.0
    _, table = trace(jnp.asarray(x), of)
    assert table["value"].notna().all()
    assert value(table, 1, "mi_xt") == 0
    assert value(table, 1, "mi_yt_p") == 1
    assert value(table, 1, "probe_auroc") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("n", "labels", "groups", "expected"),
    [
        pytest.param(3, [0, 1, 0], None, "2 groups of rows cannot fill 5 folds", id="three rows"),
        pytest.param(8, None, None, "4 groups of rows cannot fill 5 folds", id="fewer groups than folds"),
        pytest.param(40, [1] + [0] * 39, None, "no label 1", id="one row of a class"),
    ],
)
def test_sets_that_cannot_be_split_are_refused_in_a_line(n, labels, groups, expected):
    labels = np.tile([0, 1], n // 2) if labels is None else np.asarray(labels)
    groups = tuple(f"g{i // 2}" for i in range(n))
    with pytest.raises(InputError, match=expected) as error:
        sound_set(statements(n, groups, labels), CONFIG)
    assert "\n" not in str(error.value)
