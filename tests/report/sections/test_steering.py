"""The report's section on steering."""

import pandas as pd
import pytest

from jtrace.report.page import Details, Figure, Table
from jtrace.report.sections.steering import MOST_OPEN, steering_blocks
from jtrace.runs.steering_files import CHOSEN, DIFFERENCE
from tests.report.reading import words
from tests.tables import steered, steering_table


def strongest(*tables):
    """The one task's row about its strongest vector, by column."""
    table = next(block for block in steering_blocks(pd.concat(tables), [], []) if isinstance(block, Table))
    assert table.caption.startswith("The strongest vector of each task")
    (row,) = table.rows
    return dict(zip(table.columns, row, strict=True))


def under_sound(*tables, chosen=1):
    """Tables with the strength that validation rows chose."""
    rows = pd.concat(tables).assign(protocol="sound")
    at = rows[rows["strength"] == chosen]
    return pd.concat([rows, at.assign(metric=CHOSEN + at["metric"])])


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.6, "better"), (0.52, "not clear"), (0.5, "not clear"), (0.3, "worse")]
)
def test_a_verdict_weighs_the_gain_against_the_intervals(value, verdict):
    row = strongest(steered({0: 0.5, 1: value}))
    assert (row["verdict"], row["unsteered"], row["steered"]) == (verdict, 0.5, value)
    assert row["gain"] == pytest.approx(value - 0.5)
    assert (row["vector of"], row["set"], row["layer"], row["strength"]) == ("ckpt_1", "stereoset", 1, "1")


def test_where_less_is_better_a_fall_is_a_gain():
    row = strongest(steered({0: 0.5, 1: 0.4}, task="toxigen", metric="toxicity", dataset="toxigen"))
    assert (row["verdict"], row["metric"]) == ("better", "toxicity (lower is better)")
    assert row["gain"] == pytest.approx(0.1)


def test_the_interval_of_a_gain_is_that_of_the_paired_difference_where_it_was_measured():
    name = DIFFERENCE + "accuracy"
    one = strongest(steered({0: 0.5, 1: 0.52}), steered({1: 0.02}, metric=name, half=0.01))
    assert (one["verdict"], one["its 95 %"]) == ("better", "0.010 to 0.030")
    of_two = strongest(steered({0: 0.5, 1: 0.52, 2: 0.5}), steered({1: 0.02, 2: 0.0}, metric=name, half=0.01))
    assert (of_two["verdict"], of_two["its 95 %"], of_two["best of"]) == ("better", "0.009 to 0.031", 2)
    toxicity = {"task": "toxigen", "metric": "toxicity", "dataset": "toxigen"}
    less = strongest(steered({0: 0.5, 1: 0.4}, **toxicity),
                     steered({1: -0.1}, **toxicity | {"metric": DIFFERENCE + "toxicity"}, half=0.02))  # fmt: skip
    assert (less["verdict"], less["its 95 %"]) == ("better", "0.080 to 0.120")
    assert "its 95 %" not in strongest(steered({0: 0.5, 1: 0.52}))


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (0.62, "random does as much"),
        (0.58, "random is not told apart"),
        (0.5, "random does less"),
        (None, "none was run"),
    ],
)
def test_a_gain_is_weighed_against_the_control(control, said):
    tables = [steered({0: 0.5, 1: 0.6})]
    if control is not None:
        tables.append(steered({0: 0.5, 1: control}, source="ckpt_1:random"))
    row = strongest(*tables)
    assert (row["verdict"], row["against control"]) == ("better", said)
    assert row.get("random control's gain") == (None if control is None else pytest.approx(control - 0.5))


def test_what_is_no_gain_needs_no_control():
    assert "against control" not in strongest(steered({0: 0.5, 1: 0.52}))


def test_what_a_gain_cost_is_said():
    row = strongest(
        steered({0: 0.5, 1: 0.6}),
        steered({0: 10, 1: 25}, task="perplexity", metric="perplexity"),
        steered({0: 0.5, 1: 0.4}, task="arc_easy"),
        steered({0: 0.0, 1: 0.25}, metric="unparsable"),
        steered({0: 1.0, 1: 0.5}, metric="judged"),
    )
    costs = [row[name] for name in ("perplexity ratio", "capability", "judged", "unparsable")]
    assert costs == [2.5, pytest.approx(-0.1), 0.5, 0.25]


def test_of_several_vectors_it_says_how_many_improve_the_task():
    tables = [steered({0: 0.5, 1: value}, source=f"ckpt_{at}") for at, value in enumerate((0.51, 0.6, 0.7))]
    row = strongest(*tables)
    # Their intervals hold for all three at once.
    assert (row["vector of"], row["better vectors"], row["best of"]) == ("ckpt_2", "2 of 3", 3)
    sound = strongest(under_sound(*tables))
    assert sound["better vectors"] == "2 of 3"
    assert "best of" not in sound


def test_the_best_of_many_settings_is_told_as_such_and_so_are_ties():
    layers = [steered({0: 0.5, 1: 0.6, 2: 0.6}, source=name, layer=at) for name in "ab" for at in (3, 4)]
    row = strongest(*layers)
    assert (row["steered"], row["best of"], row["tied with"]) == (0.6, 8, 7)
    assert (row["vector of"], row["layer"], row["strength"]) == ("a", 3, "1")


def test_under_sound_it_says_what_was_chosen_where():
    page = words(steering_blocks(under_sound(steered({0: 0.5, 1: 0.6})), [], []))
    assert "protocol sound; layer and strength were chosen on validation rows, the values are of the other" in page
    nothing = strongest(under_sound(steered({0: 0.5, 1: 0.6}), chosen=0))
    assert (nothing["verdict"], nothing["unsteered"], nothing["steered"]) == ("none chosen", 0.5, 0.5)


def test_without_intervals_nothing_is_claimed():
    assert strongest(steered({0: 0.5, 1: 0.9}).assign(ci_low=float("nan")))["verdict"] == "no interval"


def test_the_table_has_the_setting_the_gain_and_the_control_beside_it():
    toxicity = {"task": "toxigen", "metric": "toxicity", "dataset": "toxigen"}
    tables = [
        steered({0: 0.25, 2: 0.125}, **toxicity, half=0.03),
        steered({0: 0.25, 2: 0.24}, **toxicity, source="ckpt_1:random"),
    ]
    page = words(steering_blocks(pd.concat(tables), [], []))
    assert "protocol paper; layer and strength are the best on the very rows that are reported, which flatters" in page
    assert (
        "target task metric verdict unsteered steered 95 % from to gain vector of set layer strength against control "
        "random control's gain chat toxigen (toxicity) toxicity (lower is better) better 0.250 0.125 0.095 0.155 0.125 "
        "ckpt_1 toxigen 1 2 random does less 0.010" in page
    )
    assert "None chosen: on the validation rows no strength was better than none." in page


def test_every_task_stands_in_a_table():
    tables = [
        steered({0: 0.5, 1: 0.6}),
        steered({0: 0.4, 1: 0.25, 2: 0.3}, task="arc_easy"),
        steered({0: 10, 1: 12, 2: 40}, task="perplexity", metric="perplexity", layer=4),
        steered({0: 0.4, 1: 0.1}, task="mmlu", source="ckpt_1:random"),
        steered({0: 0.3}, task="race", source="", dataset=""),
    ]
    page = words(steering_blocks(pd.concat(tables), [], []))
    assert "chat arc_easy accuracy paper ckpt_1 stereoset 100 0.400 0.380 0.420 0.250 1 1 0.230 0.270" in page
    assert "chat perplexity perplexity paper ckpt_1 stereoset 100 10.000 9.980 10.020 40.000 4 2 39.980 40.020" in page
    assert "chat race accuracy paper – – 100 0.300 0.280 0.320 – – – – –" in page
    assert "mmlu" not in page


def test_answers_that_cannot_be_judged_are_said_to_be_so():
    nothing = steered({0: 0.5, 1: 0.5}).assign(value=float("nan"), ci_low=float("nan"), ci_high=float("nan"), n=0)
    page = words(steering_blocks(nothing, [], []))
    assert "chat stereoset accuracy paper ckpt_1 stereoset 0 cannot be judged cannot be judged" in page


def test_a_long_table_is_folded():
    tables = [steered({0: 0.5, 1: 0.6}, source=f"ckpt_{at}") for at in range(MOST_OPEN + 1)]
    summaries = [
        [block.summary for block in steering_blocks(pd.concat(some), [], []) if isinstance(block, Details)]
        for some in (tables, tables[:-1])
    ]
    assert summaries == [[f"All vectors and tasks, protocol paper ({MOST_OPEN + 1} rows)"], []]


def test_sweeps_that_were_left_out_are_counted():
    tables = pd.concat([steered({0: 0.5, 1: 0.6}, source=f"ckpt_{at}") for at in range(3)])
    figure = Figure("figure-1", "", "", "", "")
    *_, some = steering_blocks(tables, [], [figure] * 2)
    *_, all_ = steering_blocks(tables, [], [figure] * 3)
    assert some.summary == (
        "Behaviour over steering strength: 2 of 3 vectors, the target's own and each task's strongest other"
    )
    assert all_.summary == "Behaviour over steering strength"


def test_nothing_steered_is_no_section():
    assert list(steering_blocks(steering_table([]), [], [])) == []
    assert list(steering_blocks(steered({0: 0.5}, source=""), [], [])) == []
