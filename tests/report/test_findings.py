"""What is said of a run's numbers."""

import numpy as np
import pandas as pd
import pytest

from jtrace.report.findings import Course, clear_of, findings
from tests.tables import metrics_table, onset_row, sound_table


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
    assert words.startswith(finding.verdict)


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


def sound(**intervals):
    """The finding of one set under `sound` at step 100; `intervals` are value, low and high of a metric."""
    table = sound_table([0, 100], datasets=["mine"])
    for metric, numbers in intervals.items():
        table.loc[table["metric"] == metric, ["value", "ci_low", "ci_high"]] = numbers
    (finding,) = findings(table)
    return finding


def test_under_sound_the_words_rest_on_paired_intervals():
    finding = sound()
    assert finding.clear
    assert finding.in_words() == (
        "0.80 at step 0, 0.90 (0.87 to 0.93) at step 100 (layer 2, 2000 held-out rows): above text only by 0.30 (0.27 "
        "to 0.33), above random initialisation by 0.35 (0.31 to 0.39). With the layer chosen on rows apart (most often "
        "2) 0.89 (0.86 to 0.92). Its probabilities are off by 0.04 on average, 0.02 more than a calibrated probe's "
        "(p = 0.004)."
    )


@pytest.mark.parametrize(
    ("metric", "numbers", "words"),
    [
        ("gain_over_text", (0.01, -0.02, 0.04), "not clearly above text only (by 0.01, −0.02 to 0.04)"),
        ("gain_over_text", (-0.1, -0.12, -0.08), "below text only by 0.10 (0.08 to 0.12)"),
        (
            "gain_over_random_init",
            (0.0, -0.02, 0.02),
            "not clearly above random initialisation (by 0.00, −0.02 to 0.02)",
        ),
        (
            "gain_over_random_init",
            (0.3, np.nan, np.nan),
            "not clearly above random initialisation (by 0.30, no interval)",
        ),
        ("probe_accuracy", (0.9, 0.51, 1.0), "not clearly above chance (0.52)"),
    ],
)
def test_under_sound_one_baseline_that_is_not_left_behind_is_enough(metric, numbers, words):
    finding = sound(**{metric: numbers})
    assert not finding.clear
    assert finding.verdict == ("below" if words.startswith("below") else "not clearly above")
    assert words in finding.in_words()


def test_what_a_probe_remembers_is_no_line_to_leave_behind():
    assert sound(selectivity=(-0.1, -0.2, 0.0)).clear


def test_an_error_that_a_calibrated_probe_would_have_is_said_to_be_no_more():
    words = sound(probe_ece_p=(0.3, np.nan, np.nan)).in_words()
    assert words.endswith("off by 0.04 on average, no more than a calibrated probe's (p = 0.300).")


def test_a_probe_far_below_one_half_is_not_passed_over():
    assert "far below one half" in sound(probe_accuracy=(0.3, 0.25, 0.35)).in_words()
    assert "far below one half" not in sound(probe_accuracy=(0.47, 0.45, 0.49)).in_words()
    table = metrics_table([0], datasets=["mine"])
    table.loc[table["metric"] == "probe_accuracy", "value"] = 0.3
    assert "(twins) have opposite labels" in findings(table)[0].in_words()
    assert findings(table)[0].verdict == "far below one half"


def test_the_normal_approximation_has_no_say_under_sound():
    # 0.90 against 0.60 on 2000 rows would be clear by far.
    finding = sound(gain_over_text=(0.3, -0.1, 0.7))
    assert not finding.clear
    assert finding.margin == pytest.approx(0.4)


def test_information_is_followed_above_its_null_under_sound():
    assert set(sound().courses) == {"mi_xt_excess", "mi_yt_excess"}


def test_what_a_clear_finding_is_above():
    assert clear_of(findings(sound_table([0]))) == "all of text only, random initialisation and chance"
    assert clear_of(findings(metrics_table([0]))) == "the text-only classifier and chance"


@pytest.mark.parametrize(
    ("onset", "words"),
    [
        ({"at": 20}, "With layers chosen on rows apart it stays above the largest of text only, chance, random "
                     "initialisation and 0.5 from step 20 on (step 10 to step 30)."),
        ({"at": 20, "ci_high": np.nan}, "from step 20 on (step 10 or later)."),
        ({"at": 20, "ci_low": 20, "ci_high": 20}, "from step 20 on."),
        ({"at": 20, "layer": 1}, "from step 20 on (step 10 to step 30)."),
        ({"at": 20, "metric": "mi_yt_excess"}, "than a calibrated probe's (p = 0.004)."),
    ],
)  # fmt: skip
def test_the_onset_is_told_where_it_is_known(onset, words):
    (finding,) = findings(sound_table([0, 20, 100], datasets=["mine"]), pd.DataFrame([onset_row(**onset)]))
    assert finding.in_words().endswith(words)


def test_nothing_is_said_of_an_onset_that_is_not_clear_or_of_the_layer_that_looks_best():
    table = sound_table([0, 20, 100], datasets=["mine"])
    unclear = table[table["metric"] == "chosen_layer_accuracy"].assign(
        metric="chosen_layer_gain", value=0.01, ci_low=-0.01, ci_high=0.03
    )
    for metrics, onset in (
        (table, onset_row(np.nan)),
        (table, onset_row(20, metric="probe_accuracy")),
        (pd.concat([table, unclear]), onset_row(20)),
    ):
        (finding,) = findings(metrics, pd.DataFrame([onset]))
        assert finding.onset == ""
