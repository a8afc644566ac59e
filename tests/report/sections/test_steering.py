"""The report's section on steering."""

import re
from html import unescape

import pandas as pd
import pytest

from jtrace.report.sections.steering import MOST_OPEN, steering_section, verdicts
from jtrace.steering.effects import effects
from jtrace.steering.results import vectors
from tests.tables import steered, steering_table


def said(*tables):
    return dict(verdicts(effects(vectors(pd.concat(tables)))))


def words(html):
    return " ".join(unescape(re.sub("<[^>]+>", " ", html)).split())


def test_no_gain_is_called_none():
    assert said(steered({0: 0.5, 1: 0.52})) == {
        "stereoset": "no strength moved accuracy for the better beyond its interval: 0.500 unsteered, 0.520 "
        "(vector of ckpt_1 for stereoset, layer 1, strength 1)."
    }


def test_a_loss_is_called_a_loss():
    assert (
        "made accuracy worse beyond its interval: 0.500 unsteered, 0.300"
        in said(steered({0: 0.5, 1: 0.3}))["stereoset"]
    )


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        (0.62, "The random control does as much (0.620 at its own best setting): the gain is not owed"),
        (0.58, "The random control is not told apart from it (0.580"),
        (0.5, "The random control does not do as much (0.500"),
        (None, "No control was run there: any push of this size might do as much."),
    ],
)
def test_a_gain_is_weighed_against_the_control(control, verdict):
    tables = [steered({0: 0.5, 1: 0.6})]
    if control is not None:
        tables.append(steered({0: 0.5, 1: control}, source="ckpt_1:random"))
    text = said(*tables)["stereoset"]
    assert text.startswith("steering improved accuracy beyond its interval: 0.500 unsteered, 0.600 (vector of")
    assert verdict in text


def test_what_a_gain_cost_is_said():
    text = said(
        steered({0: 0.5, 1: 0.6}),
        steered({0: 10, 1: 25}, task="perplexity", metric="perplexity"),
        steered({0: 0.5, 1: 0.4}, task="arc_easy"),
        steered({0: 0.0, 1: 0.25}, metric="unparsable"),
        steered({0: 1.0, 1: 0.5}, metric="judged"),
    )["stereoset"]
    assert "Perplexity there is 2.50 times the unsteered model's: the text suffers." in text
    assert "Capability changes by −0.100." in text
    assert "25.0% of the answers there cannot be read." in text
    assert "Only 50.0% of the completions there can be judged." in text


def test_of_several_vectors_it_says_how_many_improve_the_task():
    tables = [steered({0: 0.5, 1: value}, source=f"ckpt_{at}") for at, value in enumerate((0.51, 0.6, 0.7))]
    text = said(*tables)["stereoset"]
    assert "(vector of ckpt_2 for" in text
    # Their intervals hold for all three at once.
    assert text.endswith("2 of 3 vectors improved it beyond its interval.")
    of_sound = [
        pd.concat(
            [
                table.assign(protocol="sound"),
                table[table["strength"] == 1].assign(metric="chosen_accuracy", protocol="sound"),
            ]
        )
        for table in tables
    ]
    assert said(*of_sound)["stereoset"].endswith("beyond its interval; among several, some may do so by luck.")


def test_the_best_of_many_settings_is_told_as_such_and_so_are_ties():
    layers = [steered({0: 0.5, 1: 0.6, 2: 0.6}, source=name, layer=at) for name in "ab" for at in (3, 4)]
    text = said(*layers)["stereoset"]
    assert "0.600 at the best of 8 settings, tied with 7 more (vector of a for stereoset, layer 3, strength 1)" in text


def test_under_sound_it_says_what_was_chosen_where():
    rest = steered({0: 0.5, 1: 0.6}, protocol="sound")
    chosen = steered({1: 0.6}, metric="chosen_accuracy", protocol="sound")
    assert said(rest, chosen)["stereoset"].startswith("the strength chosen on validation rows improved accuracy")
    nothing = steered({0: 0.5}, metric="chosen_accuracy", protocol="sound")
    assert said(rest, nothing)["stereoset"] == (
        "on the validation rows no strength had a better accuracy than none (0.500)."
    )


def test_without_intervals_nothing_is_claimed():
    table = steered({0: 0.5, 1: 0.9}).assign(ci_low=float("nan"))
    assert "without intervals nothing can be said" in said(table)["stereoset"]


def test_the_table_has_the_setting_the_gain_and_the_control_beside_it():
    html = steering_section(
        pd.concat(
            [
                steered({0: 0.25, 2: 0.125}, task="toxigen", metric="toxicity", dataset="toxigen", half=0.03),
                steered(
                    {0: 0.25, 2: 0.24}, task="toxigen", metric="toxicity", dataset="toxigen", source="ckpt_1:random"
                ),
            ]
        ),
        "",
        "",
    )
    text = words(html)
    assert "protocol paper; layer and strength are the best on the very rows that are reported, which flatters" in text
    assert (
        "target task metric vector of set layer strength unsteered steered 95 % from to gain beyond its interval "
        "random control's gain chat toxigen (toxicity) toxicity (lower is better) ckpt_1 toxigen 1 2 0.250 0.125 "
        "0.095 0.155 0.125 yes 0.010" in text
    )


def test_every_task_stands_in_a_table():
    html = steering_section(
        pd.concat(
            [
                steered({0: 0.5, 1: 0.6}),
                steered({0: 0.4, 1: 0.25, 2: 0.3}, task="arc_easy"),
                steered({0: 10, 1: 12, 2: 40}, task="perplexity", metric="perplexity", layer=4),
                steered({0: 0.4, 1: 0.1}, task="mmlu", source="ckpt_1:random"),
                steered({0: 0.3}, task="race", source="", dataset=""),
            ]
        ),
        "",
        "",
    )
    text = words(html)
    assert "chat arc_easy accuracy paper ckpt_1 stereoset 100 0.400 0.380 0.420 0.250 1 1 0.230 0.270" in text
    assert "chat perplexity perplexity paper ckpt_1 stereoset 100 10.000 9.980 10.020 40.000 4 2 39.980 40.020" in text
    assert "chat race accuracy paper – – 100 0.300 0.280 0.320 – – – – –" in text
    assert "mmlu" not in text


def test_answers_that_cannot_be_judged_are_said_to_be_so():
    nothing = steered({0: 0.5, 1: 0.5}).assign(value=float("nan"), ci_low=float("nan"), ci_high=float("nan"), n=0)
    text = words(steering_section(nothing, "", ""))
    assert "chat stereoset accuracy paper ckpt_1 stereoset 0 cannot be judged cannot be judged" in text


def test_a_long_table_is_folded():
    tables = [steered({0: 0.5, 1: 0.6}, source=f"ckpt_{at}") for at in range(MOST_OPEN + 1)]
    assert f"<summary>All {MOST_OPEN + 1} vectors and tasks, protocol paper</summary>" in steering_section(
        pd.concat(tables), "", ""
    )
    assert "<summary>" not in steering_section(pd.concat(tables[:-1]), "", "")


def test_sweeps_that_were_left_out_are_counted():
    tables = pd.concat([steered({0: 0.5, 1: 0.6}, source=f"ckpt_{at}") for at in range(3)])
    assert "2 of 3 vectors, the target's own" in steering_section(tables, "", "<figure></figure>" * 2)
    assert "Behaviour over steering strength</summary>" in steering_section(tables, "", "<figure></figure>" * 3)


def test_names_are_text_and_nothing_steered_is_no_section():
    assert "<i>" not in steering_section(steered({0: 0.5, 1: 0.6}, source="<i>"), "", "")
    assert steering_section(steering_table([]), "", "") == ""
    assert steering_section(steered({0: 0.5}, source=""), "", "") == ""
