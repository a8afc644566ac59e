"""The statement sets that figures show."""

import pytest
from matplotlib.image import imread

from jtrace.report.figures.choice import choice_note, chosen_sets
from jtrace.report.figures.draw import draw_all
from tests.tables import (
    both_protocols,
    dynamics_tables,
    metrics_table,
    steering_table,
    write_projections,
    write_run,
    write_steering,
)


def test_those_that_moved_most_are_chosen_up_or_down_in_the_table_s_order():
    table = metrics_table([0, 1], datasets=["a", "b", "c", "d"], layers=2)
    for name, value in {"d": 0.95, "b": 0.3}.items():
        at = (table["dataset"] == name) & (table["step"] == 1) & (table["metric"] == "probe_accuracy")
        table.loc[at, "value"] = value
    assert chosen_sets(table, most=2) == ["b", "d"]
    assert chosen_sets(table, most=3) == ["a", "b", "d"]
    assert chosen_sets(table, most=4) == ["a", "b", "c", "d"]


def test_where_nothing_moved_the_first_are_chosen_and_a_set_without_probes_comes_last():
    table = metrics_table([None], datasets=["a", "b", "c"], layers=2)
    without = table[(table["dataset"] != "a") | (table["metric"] != "probe_accuracy")]
    assert chosen_sets(table, most=2) == ["a", "b"]
    assert chosen_sets(without, most=2) == ["b", "c"]


def test_what_is_left_out_is_said():
    assert choice_note(12, 12) == ""
    assert "12 of 300 statement sets" in choice_note(12, 300)
    assert "The other 288 are in the tables." in choice_note(12, 300)


@pytest.mark.slow
def test_of_many_sets_no_figure_has_more_panels_than_those_that_are_shown(tmp_path):
    steps, many = [0, 5, 20, 100], [f"set{number}" for number in range(30)]
    metrics = both_protocols(steps, layers=2, datasets=many)
    # Transfer between all pairs is most of the table, and drawn as one map.
    metrics = metrics[~metrics["metric"].str.startswith("transfer") | metrics["metric"].str.endswith("set1")]
    run = write_run(tmp_path / "run", metrics)
    write_projections(run, "llama@step0", many, layers=2, rows=3)
    run.write_dynamics(dynamics_tables(steps, many, layers=2))
    write_steering(run, steering_table([f"llama@step{step}" for step in steps]))
    drawn = draw_all(run, metrics, most_sets=2)
    assert {figure.section for figure in drawn} == {
        *("probes", "information", "projections", "dynamics", "angles", "transfer", "agreement"),
    }
    for figure in drawn:
        height, _, _ = imread(figure.path).shape
        assert height < 2 * 200 * 3.2, figure.path.name  # two rows of panels at most, 200 pixels an inch
        assert "2 of 30 statement sets" in figure.caption
