"""Where the published protocol and the sound one disagree, and where they agree."""

import pandas as pd
import pytest

from jtrace.report.compare_protocols import side_by_side
from jtrace.report.findings import finding
from jtrace.report.standings import standings
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


def compare(metrics, turns=None):
    stand = standings(metrics)
    return side_by_side(stand, [finding(standing) for standing in stand], turns)


def rows(*arguments):
    """Each measure of the one set: paper, sound and the verdict."""
    (compared,) = compare(*arguments)
    return {one.measure: (one.paper, one.sound, one.verdict) for one in compared.comparisons}


def differing(*arguments):
    (compared,) = compare(*arguments)
    return {one.measure for one in compared.comparisons if not one.agrees}


def test_protocols_that_agree_are_said_to_measure_by_measure_with_the_numbers():
    assert rows(tables()) == {
        "best layer": ("2 (0.90)", "2 (0.90, 0.87 to 0.93)", "agree"),
        "accuracy, layer 2": ("0.90 (luck ±0.03, 400 test rows)", "0.90 (0.87 to 0.93)", "agree"),
        "probe above its baselines": (
            "0.90 against text only 0.60, chance 0.52",
            "0.30 (0.27 to 0.33) above text only, 0.35 (0.31 to 0.39) above random initialisation; "
            "0.90 (0.87 to 0.93) against chance 0.52",
            "agree: above under both",
        ),
        "I(X;T), layer 2": ("5.10, no null", "5.10, null 1.70 to 2.30, p = 0.005", "agree: above its null"),
        "I(Y;T), layer 2": ("0.60, no null", "0.60, null 0.05 to 0.15, p = 0.005", "agree: above its null"),
        "accuracy over 3 checkpoints, layer 2": ("0.840 on average", "0.840 on average", "agree: beyond luck at none"),
    }
    assert differing(tables()) == set()


def test_nothing_is_said_where_a_protocol_is_missing():
    assert compare(metrics_table(STEPS)) == []


@pytest.mark.parametrize(
    ("at_layer_3", "side"), [(0.8, "outside its interval"), (0.89, "within its interval: hardly told apart")]
)
def test_another_best_layer(at_layer_3, side):
    table = changed("paper", "probe_accuracy", 0.95, layer=3, step=100)
    at = (table["protocol"] == "sound") & (table["metric"] == "probe_accuracy") & (table["step"] == 100)
    table.loc[at & (table["layer"] == 3), "value"] = at_layer_3
    verdict = f"differ: sound has {at_layer_3:.2f} at layer 3, {side}"
    assert rows(table)["best layer"] == ("3 (0.95)", "2 (0.90, 0.87 to 0.93)", verdict)


@pytest.mark.parametrize(
    ("accuracy", "luck", "reason"),
    [
        (0.99, 0.01, "paper above sound's interval; more than luck with the test rows explains, as where related rows "
                     "are on both sides of the published split"),
        (0.935, 0.02, "paper above sound's interval; luck with the test rows may explain it"),
        (0.8, 0.04, "paper below sound's interval; more than luck with the test rows explains"),
    ],
)  # fmt: skip
def test_an_accuracy_outside_the_interval_and_what_luck_explains(accuracy, luck, reason):
    table = changed("paper", "probe_accuracy", accuracy, layer=2, step=100)
    table = table[~((table["protocol"] == "paper") & (table["layer"] != 2))]
    paper = f"{accuracy:.2f} (luck ±{luck:.2f}, 400 test rows)"
    assert rows(table)["accuracy, layer 2"] == (paper, "0.90 (0.87 to 0.93)", f"differ: {reason}")


def test_a_probe_that_only_paper_calls_above_text():
    table = changed("sound", "gain_over_text", 0.01, layer=2, step=100)
    _, sound, verdict = rows(table)["probe above its baselines"]
    assert sound.startswith("0.01 (−0.02 to 0.04) above text only, 0.35")
    assert verdict == "differ: above under paper alone; sound: not above text only"
    assert differing(table) == {"probe above its baselines"}


def test_a_probe_that_falls_short_once_its_layer_is_chosen_on_rows_apart():
    table = tables()
    chosen = table[table["metric"] == "chosen_layer_accuracy"]
    gain = chosen.assign(metric="chosen_layer_gain", value=0.01, ci_low=-0.01, ci_high=0.03)
    _, sound, verdict = rows(pd.concat([table, gain]))["probe above its baselines"]
    assert "0.01 (−0.01 to 0.03) above all of these with the layer chosen on rows apart" in sound
    assert verdict.endswith("alone; sound: not above all of these with the layer chosen on rows apart")


def test_a_probe_that_only_sound_calls_above_text():
    paper, _, verdict = rows(changed("paper", "text_accuracy", 0.89))["probe above its baselines"]
    assert (paper, verdict) == ("0.90 against text only 0.89, chance 0.52", "differ: above under sound alone")


def test_a_probe_that_neither_calls_above_text_is_agreement():
    table = changed("paper", "text_accuracy", 0.89)
    gains = (table["metric"] == "gain_over_text") & (table["protocol"] == "sound")
    table.loc[gains, ["value", "ci_low", "ci_high"]] = [0.0, -0.02, 0.02]
    assert differing(table) == set()
    verdict = rows(table)["probe above its baselines"][2]
    assert verdict == "agree: above under neither; sound: not above text only"


@pytest.mark.parametrize(("metric", "name"), [("mi_xt", "I(X;T)"), ("mi_yt", "I(Y;T)")])
def test_information_that_permuted_rows_give_as_well(metric, name):
    table = changed("sound", f"{metric}_p", 0.3)
    _, sound, verdict = rows(table)[f"{name}, layer 2"]
    assert sound.endswith("p = 0.300")
    assert verdict == "differ: no more than rows that have nothing to do with each other"
    assert differing(table) == {f"{name}, layer 2"}


@pytest.mark.parametrize(
    ("paper", "sound", "verdict"),
    [
        ((20, 0.005), (20, 0.4), "differ: clear under paper alone"),
        ((20, 0.4), (20, 0.005), "differ: clear under sound alone"),
        ((20, 0.005), (100, 0.005), "differ: at different places"),
        ((20, 0.005), (20, 0.005), "agree: rises and then falls under both"),
        ((20, 0.4), (20, 0.4), "agree: no turn that noise would not make as well"),
    ],
)
def test_turns(paper, sound, verdict):
    turns = pd.DataFrame([turn_row("paper", *paper), turn_row("sound", *sound)])
    assert rows(tables(), turns)["turn of I(X;T), under sound above its null"] == (
        *(f"step {at} (step {at - 10} to step {at + 10}), fall 1.50, p = {p:.3f}, layer 2" for at, p in (paper, sound)),
        verdict,
    )


def test_along_the_curve_differences_beyond_luck_are_counted():
    table = changed("paper", "probe_accuracy", 0.7, layer=2, step=20)
    measure = "accuracy over 3 checkpoints, layer 2"
    assert rows(table)[measure] == ("0.800 on average", "0.840 on average", "differ: beyond luck at 1")
    assert differing(table) == {measure}
