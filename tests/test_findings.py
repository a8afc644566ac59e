"""What is said of a run's numbers."""

import pandas as pd
import pytest

from jtrace.findings import Course, findings
from tests.tables import metrics_table


def test_a_finding_is_the_best_layer_s_first_and_last_accuracy_against_the_levels():
    (finding,) = findings(metrics_table([0, 20, 100], datasets=["stereoset"]))
    assert (finding.model, finding.dataset, finding.dimension) == ("llama", "stereoset", "fairness")
    assert (finding.layer, finding.n, finding.text, finding.chance) == (2, 400, 0.6, 0.52)
    assert (finding.first, finding.last) == (0.8, 0.9)
    assert finding.in_words() == (
        "0.80 at step 0, 0.90 at step 100 (layer 2, 400 test rows): clearly above the text-only classifier (0.60) and "
        "chance (0.52)."
    )


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.7, "clearly above the text-only classifier (0.60) and chance (0.52)"),
        (0.62, "not clearly above the text-only classifier (0.60)"),
        (0.58, "not clearly above the text-only classifier (0.60)"),
        (0.45, "below the text-only classifier (0.60)"),
    ],
)
def test_words_weigh_the_gain_against_the_noise_of_the_test_rows(accuracy, words):
    table = metrics_table([None], datasets=["mine"])
    table.loc[table["metric"] == "probe_accuracy", "value"] = accuracy
    (finding,) = findings(table)
    assert finding.in_words() == f"{accuracy:.2f} (layer 0, 400 test rows): {words}."
    assert finding.clear == words.startswith("clearly above")


def test_fewer_test_rows_make_less_clear():
    table = metrics_table([None], datasets=["mine"])
    assert findings(table)[0].clear
    assert not findings(table.assign(n=20))[0].clear


def test_a_constant_guess_may_be_the_line_to_beat():
    table = metrics_table([None], datasets=["mine"])
    table.loc[table["metric"] == "majority_accuracy", "value"] = 0.79
    (finding,) = findings(table)
    assert finding.gain == pytest.approx(0.01)
    assert not finding.clear


def test_without_levels_chance_is_a_half():
    table = metrics_table([None], datasets=["mine"])
    (finding,) = findings(table[table["metric"] == "probe_accuracy"])
    assert (finding.text, finding.chance) == (None, 0.5)
    assert finding.in_words().endswith("clearly above chance (0.50).")


def test_information_is_followed_at_the_best_layer():
    table = metrics_table([0, 20, 100], datasets=["mine"])
    middle = (table["step"] == 20) & (table["metric"] == "mi_xt") & (table["layer"] == 2)
    table.loc[middle, "value"] = 9.0
    (finding,) = findings(table)
    assert finding.courses["mi_xt"] == Course(5.0, 9.0, "step 20", 5.1, False, False)
    assert finding.courses["mi_xt"].in_words("I(X;T)") == (
        "I(X;T) is 5.00 at first, highest at step 20 with 9.00, and 5.10 at the end"
    )
    assert finding.courses["mi_yt"].in_words("I(Y;T)") == "I(Y;T) goes from 0.50 to 0.60 and is highest at the end"
    falling = Course(2.0, 2.0, "step 0", 1.0, True, False)
    assert falling.in_words("I(X;T)") == "I(X;T) goes from 2.00 to 1.00 and is highest at the start"


def test_a_model_traced_once_comes_after_the_curves():
    table = pd.concat([metrics_table([60], model="chat", datasets=["mine"]), metrics_table([0, 9], datasets=["mine"])])
    curve, chat = findings(table)
    assert (curve.model, curve.first_at) == ("llama", "step 0")
    assert (chat.model, chat.first_at, chat.courses) == ("chat@step60", "", {})
