"""Probes in Python: the numbers of a trace, their directions, and predictions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import jtrace
from jtrace import InputError
from jtrace.data.splits import prefix_split


@pytest.fixture(scope="module")
def probes(acts, data, sound):
    return jtrace.fit_probes(acts, data, permutations=sound.permutations, draws=sound.draws)


@pytest.fixture(scope="module")
def paper(acts, data):
    return jtrace.fit_probes(acts, data, protocol="paper")


def traced(run, protocol):
    metrics = run.metrics
    return metrics[metrics["protocol"] == protocol].reset_index(drop=True)


def test_the_numbers_are_those_of_a_trace(run, paper):
    pd.testing.assert_frame_equal(paper.table, traced(run, "paper"))


@pytest.mark.slow
def test_the_numbers_of_protocol_sound_are_those_of_a_trace(place, data, probes, sound):
    run = jtrace.trace(place / "chat", data, place / "sound", protocol="sound", sound=sound)
    pd.testing.assert_frame_equal(probes.table, traced(run, "sound"))


def test_the_published_probe_is_scikit_learn_s(acts, data, paper):
    x, split = acts.to_numpy()[1].astype(np.float64), prefix_split(data.labels)
    z = (x - x.mean(0)) / x.std(0, ddof=1)
    reference = LogisticRegression(C=1.0, tol=1e-9, max_iter=1000).fit(z[split.train], data.labels[split.train])

    np.testing.assert_allclose(paper.directions[1], reference.coef_[0] / x.std(0, ddof=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(paper.scores(acts)[1], reference.decision_function(z), rtol=1e-3, atol=1e-4)
    accuracy = paper.table.query("layer == 1 and metric == 'probe_accuracy'")["value"].item()
    assert np.mean(paper.predict(acts)[1][split.test] == data.labels[split.test]) == pytest.approx(accuracy)


def test_predictions_are_of_statements_that_were_not_fitted(model, paper):
    some = model.activations(["ba be bi bo bu ."])

    assert paper.predict(some).shape == (3, 1)


@pytest.mark.slow
def test_scores_are_linear_in_the_residual(acts, probes):
    values = acts.to_numpy()
    expected = np.einsum("lnd,ld->ln", values, probes.directions) + probes.intercepts[:, None]

    np.testing.assert_allclose(probes.scores(acts), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_arrays_of_one_s_own_have_no_architecture_to_be_held_against(acts, data, probes, sound):
    own = jtrace.fit_probes(acts.to_numpy(), data, permutations=sound.permutations, draws=sound.draws)
    names = set(own.table["metric"])

    assert not any("random_init" in name for name in names)
    assert set(probes.table["metric"]) - names == {
        "random_init_accuracy", "random_init_auroc", "gain_over_random_init",
    }  # fmt: skip
    assert own.table["model"].isna().all()
    same = ["probe_accuracy", "probe_auroc", "gain_over_text", "mi_xt"]
    key = ["layer", "metric", "value", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(
        *(one.table[one.table["metric"].isin(same)][key].reset_index(drop=True) for one in (own, probes))
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :-1], "activations of 59 statements for 60; give those of the same ones"),
        (lambda x: x[0], r"activations of shape \[60, 24\] and type float32; give floats"),
        (lambda x: np.where(np.arange(24) == 3, np.nan, x), "activations hold NaN or infinite values"),
    ],
)
def test_what_does_not_fit_is_refused(acts, data, change, message):
    with pytest.raises(InputError, match=message):
        jtrace.fit_probes(change(acts.to_numpy()), data, protocol="paper")


def test_an_unknown_protocol_is_refused(acts, data):
    with pytest.raises(InputError, match="protocol='loud': known are paper, sound"):
        jtrace.fit_probes(acts, data, protocol="loud")


def test_other_layers_or_widths_are_not_predicted(acts, paper):
    with pytest.raises(InputError, match=r"activations of 2 layers; give those of the 3 layers \[0, 1, 2\]"):
        paper.predict(acts.to_numpy()[:2])
    with pytest.raises(InputError, match="activations of width 23; the probes are of width 24"):
        paper.predict(acts.to_numpy()[..., :-1])


def test_it_says_what_it_is(paper):
    assert repr(paper).startswith("Probes(paper, 'mine': 3 layers; accuracy 0.")
    assert "probe_auroc" in paper._repr_html_()
