"""Where the published protocol and the sound one disagree, and where they agree."""

import pandas as pd
import pytest

from jtrace.report.compare_protocols import side_by_side
from tests.tables import both_protocols, metrics_table, turn_row

STEPS = [0, 20, 100]


def tables():
    """Both protocols on one set, in agreement: accuracy 0.9 at layer 2 of the last checkpoint."""
    return both_protocols(STEPS, datasets=["mine"])


def changed(protocol, metric, value, **where):
    """Those tables with another value, intervals moving with it."""
    table = tables()
    chosen = (table["protocol"] == protocol) & (table["metric"] == metric)
    for column, wanted in where.items():
        chosen &= table[column] == wanted
    shift = value - table.loc[chosen, "value"]
    for column in ("value", "ci_low", "ci_high"):
        table.loc[chosen, column] += shift
    return table


def only(*arguments):
    (found,) = side_by_side(*arguments)
    return found


def test_protocols_that_agree_are_said_to_in_one_sentence_with_its_numbers():
    found = only(tables())
    assert found.disagreements == []
    assert found.agreement == (
        "They agree: the best layer is 2 under both; paper's accuracy 0.90 lies within sound's interval 0.87 to 0.93 "
        "(layer 2); the probe is above its baselines under both (paper 0.90 against text only 0.60, chance 0.52; sound "
        "above text only by 0.30 (0.27 to 0.33)); I(X;T) is above its null (5.10 under sound, the null 1.70 to 2.30); "
        "I(Y;T) is above its null (0.60 under sound, the null 0.05 to 0.15); along the curve the accuracies differ by "
        "more than luck explains at none of 3 checkpoints (layer 2; on average paper is 0.000 higher)."
    )


def test_nothing_is_said_where_a_protocol_is_missing():
    assert side_by_side(metrics_table(STEPS)) == []


@pytest.mark.parametrize(
    ("at_layer_3", "verdict"),
    [(0.8, "outside that interval"), (0.89, "within that, so the two are hardly told apart")],
)
def test_another_best_layer(at_layer_3, verdict):
    table = changed("paper", "probe_accuracy", 0.95, layer=3, step=100)
    at = (table["protocol"] == "sound") & (table["metric"] == "probe_accuracy") & (table["step"] == 100)
    table.loc[at & (table["layer"] == 3), "value"] = at_layer_3
    first = only(table).disagreements[0]
    assert first.startswith("The best layer is 3 under paper (0.95) and 2 under sound (0.90, 0.87 to 0.93); at layer 3")
    assert first.endswith(f"{verdict}.")


@pytest.mark.parametrize(
    ("accuracy", "side", "cause"),
    [
        (0.99, "above", "more than luck with 400 test rows explains (±0.01): related rows on both sides of the"),
        (0.935, "above", "which luck with 400 test rows may explain (±0.02)."),
        (0.8, "below", "more than luck with 400 test rows explains (±0.04)."),
    ],
)
def test_an_accuracy_outside_the_interval_and_what_luck_explains(accuracy, side, cause):
    table = changed("paper", "probe_accuracy", accuracy, layer=2, step=100)
    table = table[~((table["protocol"] == "paper") & (table["layer"] != 2))]
    words = only(table).disagreements[0]
    assert words.startswith(
        f"At layer 2 paper's accuracy {accuracy:.2f} lies {side} sound's interval, 0.90 (0.87 to 0.93), {cause}"
    )


def test_a_probe_that_only_paper_calls_above_text():
    found = only(changed("sound", "gain_over_text", 0.01, layer=2, step=100))
    assert found.disagreements == [
        "Paper calls the probe clearly above its baselines (0.90 against text only 0.60, chance 0.52); under sound it "
        "is not clearly above text only (by 0.01, −0.02 to 0.04)."
    ]


def test_a_probe_that_only_sound_calls_above_text():
    found = only(changed("paper", "text_accuracy", 0.89))
    assert found.disagreements[0].startswith(
        "Paper does not find the probe clearly above its baselines (0.90 against text only 0.89, chance 0.52); sound "
        "does: above text only by 0.30"
    )


def test_a_probe_that_neither_calls_above_text_is_agreement():
    table = changed("paper", "text_accuracy", 0.89)
    gains = (table["metric"] == "gain_over_text") & (table["protocol"] == "sound")
    table.loc[gains, ["value", "ci_low", "ci_high"]] = [0.0, -0.02, 0.02]
    found = only(table)
    assert found.disagreements == []
    assert "not clearly above its baselines under either" in found.agreement


@pytest.mark.parametrize(("metric", "name"), [("mi_xt", "I(X;T)"), ("mi_yt", "I(Y;T)")])
def test_information_that_permuted_rows_give_as_well(metric, name):
    (words,) = only(changed("sound", f"{metric}_p", 0.3)).disagreements
    assert words.startswith(f"Paper gives {name} as ")
    assert "(p = 0.300; layer 2): no more than rows that have nothing to do with each other." in words


@pytest.mark.parametrize(
    ("paper", "sound", "words"),
    [
        ((20, 0.005), (20, 0.4), "I(X;T) clearly turns under paper, not clearly above its null under sound"),
        ((20, 0.4), (20, 0.005), "I(X;T) above its null clearly turns under sound, not clearly under paper"),
        ((20, 0.005), (100, 0.005), "I(X;T) turns at different places"),
    ],
)
def test_turns_that_differ(paper, sound, words):
    turns = pd.DataFrame([turn_row("paper", *paper), turn_row("sound", *sound)])
    (found,) = only(tables(), turns).disagreements
    assert found.startswith(words)
    assert f"paper peak at step {paper[0]}" in found
    assert f"p = {sound[1]:.3f}" in found


@pytest.mark.parametrize(("p", "words"), [(0.005, "rises and then falls under both"), (0.4, "has no turn that noise")])
def test_turns_that_agree(p, words):
    found = only(tables(), pd.DataFrame([turn_row("paper", 20, p), turn_row("sound", 20, p)]))
    assert found.disagreements == []
    assert f"I(X;T) {words}" in found.agreement


def test_along_the_curve_differences_beyond_luck_are_counted():
    table = changed("paper", "probe_accuracy", 0.7, layer=2, step=20)
    assert only(table).disagreements == [
        "Along the curve the accuracies differ by more than luck explains at 1 of 3 checkpoints (layer 2; on average "
        "paper is 0.040 lower)."
    ]
