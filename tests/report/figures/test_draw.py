"""Figures from tables alone, each where its data is there."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from jtrace.dynamics.trajectory import trajectories, with_checkpoints
from jtrace.errors import InputError
from jtrace.report.figures import style
from jtrace.report.figures.correlation import correlations
from jtrace.report.figures.draw import draw_all
from jtrace.report.figures.information import information_over_checkpoints, information_over_layers, information_plane
from jtrace.report.figures.probes import accuracy_maps, accuracy_over_checkpoints, accuracy_over_layers
from jtrace.report.figures.projections import projected
from jtrace.runs.log import append
from tests.runs.test_log import at
from tests.tables import (
    metrics_table,
    sound_table,
    steering_table,
    write_projections,
    write_run,
    write_steering,
)

LONG = "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints"
OVER_LAYERS = {"probe_accuracy_over_layers_paper", "information_over_layers_paper"}


def over_training(suffix=""):
    names = "probe_accuracy_over_checkpoints", "probe_accuracy_map", "information_over_checkpoints", "information_plane"
    return {f"{name}_paper{suffix}" for name in names}


def small(steps, model="llama"):
    return metrics_table(steps, layers=2, datasets=["mine"], model=model)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        pytest.param(small([None]), OVER_LAYERS, id="one checkpoint"),
        pytest.param(metrics_table([None], layers=1), set(), id="one layer of one checkpoint"),
        pytest.param(
            pd.concat([small([5, 9]), small([None], model="chat")]),
            OVER_LAYERS | over_training(),
            id="a curve and a chat model",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            pd.concat([small([5, 9]), small([5, 9], model="org/other")]),
            OVER_LAYERS | over_training("_llama") | over_training("_org-other"),
            id="two curves",
        ),
    ],
)
def test_every_figure_is_drawn_as_png_and_pdf(tmp_path, metrics, expected):
    drawn = draw_all(write_run(tmp_path / "run", metrics), metrics)
    assert {figure.path.stem for figure in drawn} == expected
    for figure in drawn:
        assert figure.path.read_bytes().startswith(b"\x89PNG")
        assert figure.path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert figure.alt
        assert figure.caption


@pytest.mark.slow
def test_projections_steering_and_correlation_are_drawn_where_their_tables_are(tmp_path):
    metrics = metrics_table([0, 5, 20, 100], layers=1, datasets=["mine"])
    run = write_run(tmp_path / "run", metrics)
    for step in (0, 20, 100):
        write_projections(run, f"llama@step{step}", ["mine"], layers=1)
    targets = [f"llama@step{step}" for step in (0, 5, 20, 100)]
    write_steering(run, steering_table(targets), "plain")
    write_steering(run, steering_table(["chat"], [-1.0, 0.0, 1.0], "llama@step20", "mine"), "chat")
    drawn = {figure.section: figure.path.name for figure in draw_all(run, metrics)}
    assert drawn["projections"] == "projections_paper.png"
    assert drawn["agreement"] == "correlation_paper.png"
    assert drawn["steering"] == "steering_chat_llama@step20_mine.png"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_pipeline_is_drawn_from_two_passages_on(tmp_path, count):
    metrics = metrics_table([None], layers=1)
    run = write_run(tmp_path / "run", metrics)
    for number in range(count):
        append(run.log_path, at(10 * number, 10, 1, 2))
    drawn = draw_all(run, metrics)
    assert [figure.path.name for figure in drawn] == ["pipeline.png"] * (count == 2)
    assert [figure.section for figure in drawn] == ["pipeline"] * (count == 2)


def test_a_damaged_table_of_projections_is_named(tmp_path):
    metrics = metrics_table([None], layers=1)
    run = write_run(tmp_path / "run", metrics)
    write_projections(run, "llama")
    run.projections_path("llama").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"projections/llama\.parquet: damaged"):
        draw_all(run, metrics)


def test_the_same_tables_give_the_same_files(tmp_path):
    metrics = metrics_table([None], layers=2, datasets=["mine"])
    for name in ("one", "other"):
        draw_all(write_run(tmp_path / name, metrics), metrics)
    one, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "figures").iterdir()} for name in ("one", "other")
    )
    assert one == other


def lines(figure: Figure, panel=0):
    return {line.get_label(): line for line in figure.axes[panel].get_lines()}


def test_the_curve_holds_the_table_s_values_with_text_only_and_chance_as_levels():
    (curve,) = trajectories(metrics_table([0, 20, 100]))
    figure = accuracy_over_checkpoints(curve)
    drawn = lines(figure, 1)
    np.testing.assert_allclose(drawn["layer 2"].get_xdata(), [0, 20, 100])
    np.testing.assert_allclose(drawn["layer 2"].get_ydata(), [0.8, 0.82, 0.9])
    assert drawn["text only"].get_ydata()[0] == 0.6
    assert drawn["text only"].get_linestyle() == "--"
    assert drawn["chance"].get_ydata()[0] == 0.52


def test_chance_is_a_half_where_the_table_has_no_word_on_it():
    table = metrics_table([0, 20])
    (curve,) = trajectories(table[~table["metric"].isin(["text_accuracy", "majority_accuracy"])])
    drawn = lines(accuracy_over_checkpoints(curve))
    assert drawn["chance"].get_ydata()[0] == 0.5
    assert "text only" not in drawn


@pytest.mark.parametrize(
    ("steps", "scale"),
    [([0, 1, 2, 4, 8, 64, 512, 1000], "symlog"), ([1, 2, 5, 10, 100, 300], "log"), (range(0, 360), "linear")],
)
def test_checkpoints_spaced_by_powers_are_drawn_by_powers_and_step_0_is_seen(steps, scale):
    (curve,) = trajectories(metrics_table(steps, layers=2, datasets=["mine"]))
    (ax,) = accuracy_over_checkpoints(curve).axes
    assert ax.get_xscale() == scale
    if 0 in steps:
        low, high = ax.transData.transform([(0, 0.5), (max(steps), 0.5)])[:, 0]
        left = ax.bbox.x0
        assert left < low < high
        assert 0 in ax.get_xticks()


def test_a_chat_model_among_checkpoints_is_told_apart_over_layers():
    table = pd.concat([metrics_table(range(8)), metrics_table([60], model="chat")])
    drawn = lines(accuracy_over_layers(with_checkpoints(table)))
    assert {"llama@step0", "llama@step7", "chat@step60"} <= drawn.keys()
    assert drawn["chat@step60"].get_linestyle() == "-."
    assert len([name for name in drawn if "@" in name]) == style.MOST_LINES


def test_the_map_has_a_cell_per_layer_and_checkpoint():
    (curve,) = trajectories(metrics_table([0, 20, 100], datasets=["mine"]))
    (image,) = accuracy_maps(curve).axes[0].get_images()
    expected = [[0.8 - abs(layer - 2) / 10 + step / 1000 for step in (0, 20, 100)] for layer in range(4)]
    np.testing.assert_allclose(image.get_array(), expected)


def test_the_information_plane_leaves_out_layer_0_and_goes_through_the_checkpoints_in_order():
    (curve,) = trajectories(metrics_table([100, 0, 20], datasets=["mine"]))
    ax = information_plane(curve).axes[0]
    assert len(ax.collections) == 3 * 3  # a path, its points and its end, for three layers
    path = ax.collections[0].get_segments()
    np.testing.assert_allclose(path[0], [[4.9, 0.4], [4.92, 0.42]])


def test_projections_are_coloured_by_label():
    points = pd.DataFrame({"dataset": "mine", "layer": 1, "label": [0, 1, 1], "x": [1.0, 2, 3], "y": [0.0, 1, 2]})
    ax = projected({"step 0": points}, {"mine": 1}, {"mine": "mine"}).axes[0]
    zero, one = ax.collections
    np.testing.assert_allclose(zero.get_offsets(), [[1, 0]])
    np.testing.assert_allclose(one.get_offsets(), [[2, 1], [3, 2]])
    assert not np.array_equal(zero.get_facecolor(), one.get_facecolor())


def test_a_correlation_shows_its_interval_and_n():
    table = pd.DataFrame(
        [{"dataset": "mine", "layer": 2, "task": "q", "metric": "a", "r": 0.5, "ci_low": 0.1, "ci_high": 0.8, "n": 12}]
    )
    (ax,) = correlations(table).axes
    assert [text.get_text() for text in ax.texts] == ["n = 12"]
    np.testing.assert_allclose(ax.collections[0].get_segments()[0][:, 0], [0.1, 0.8])


def test_names_are_no_mathematics(tmp_path):
    metrics = metrics_table([None], layers=2, datasets=["a$b$c"], model="$x_1$")
    assert draw_all(write_run(tmp_path / "run", metrics), metrics)


def test_long_hub_ids_leave_room_for_the_panels():
    table = pd.concat([metrics_table([None], model=LONG), metrics_table([None], model=LONG + "-2")])
    (curve,) = trajectories(table)
    for draw in (accuracy_over_checkpoints, accuracy_maps, information_over_checkpoints, information_plane):
        figure = draw(curve)
        figure.draw_without_rendering()
        panels = [ax for ax in figure.axes if ax.get_title()]
        size = figure.get_size_inches()
        assert all((np.array(ax.get_position().size) * size > 1).all() for ax in panels), draw


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (4_096_000, "4.1M"), (524_288, "524k"), (1000, "1.0k")]
)
def test_counts_are_rounded_for_axes(count, text):
    assert style.rounded(count) == text


def bands(ax):
    """Lower and upper end of each filled area of a panel, at its first place."""
    found = []
    for area in ax.collections:
        corners = area.get_paths()[0].vertices
        first = corners[np.isclose(corners[:, 0], corners[:, 0].min()), 1]
        found.append((round(first.min(), 3), round(first.max(), 3)))
    return found


def test_lines_over_training_have_their_intervals_as_bands_and_the_controls_at_their_best_layer():
    table = sound_table([0, 100], layers=3, datasets=["mine"])
    better = (table["metric"] == "random_init_accuracy") & (table["layer"] == 1)
    table.loc[better, "value"] = 0.58
    (curve,) = trajectories(table)
    figure = accuracy_over_checkpoints(curve)
    assert bands(figure.axes[0]) == [(0.57, 0.63), (0.67, 0.73), (0.77, 0.83)]
    assert lines(figure)["random initialisation"].get_ydata()[0] == 0.58
    assert lines(figure)["control task"].get_ydata()[0] == 0.5
    assert {"text only", "chance"} <= lines(figure).keys()


def test_over_layers_the_controls_are_lines_of_the_last_checkpoint():
    table = sound_table([0, 100], layers=3, datasets=["mine"])
    table.loc[(table["metric"] == "control_accuracy") & (table["step"] == 100), "value"] = 0.51
    figure = accuracy_over_layers(with_checkpoints(table))
    np.testing.assert_allclose(lines(figure)["control task"].get_ydata(), [0.51] * 3)
    np.testing.assert_allclose(lines(figure)["random initialisation"].get_xdata(), [0, 1, 2])
    assert bands(figure.axes[0])[0] == (0.57, 0.63)


def test_without_intervals_there_are_no_bands_and_no_controls():
    (curve,) = trajectories(metrics_table([0, 100], datasets=["mine"]))
    for figure in (accuracy_over_checkpoints(curve), information_over_checkpoints(curve)):
        assert not any(ax.collections for ax in figure.axes)
        assert not {"random initialisation", "control task"} & lines(figure).keys()


def test_information_stands_before_its_null_and_the_bound_before_0():
    table = sound_table([0, 100], layers=4, datasets=["mine"])
    table.loc[table["metric"] == "mi_xt_null", "ci_high"] = table["layer"] / 10 + 2.3
    xt, yt, bound = information_over_layers(with_checkpoints(table)).axes[:3]
    assert bands(xt)[0] == (1.7, 2.4)  # layer 0 is left out of I(X;T)
    assert bands(yt)[0] == (0.05, 0.15)
    assert bands(bound)[0] == (-0.1, 0.0)
    assert 0 in [line.get_ydata()[0] for line in bound.get_lines()]
    (curve,) = trajectories(table)
    assert bands(information_over_checkpoints(curve).axes[0])[0] == (1.7, 2.6)  # of the drawn layers together


def test_of_two_layers_none_is_left_out_of_information():
    xt = information_over_layers(with_checkpoints(sound_table([0], layers=2, datasets=["mine"]))).axes[0]
    np.testing.assert_allclose(xt.get_lines()[1].get_xdata(), [0, 1])


def test_the_plane_is_above_the_null_under_sound():
    (curve,) = trajectories(sound_table([0, 100], datasets=["mine"]))
    ax = information_plane(curve).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("I(X;T) above its null", "I(Y;T) above its null")
    np.testing.assert_allclose(ax.collections[0].get_segments()[0], [[2.9, 0.3], [3.0, 0.4]])
