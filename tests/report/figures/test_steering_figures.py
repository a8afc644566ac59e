"""Figures of steering: over strengths, over source checkpoints, and by dimension."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from jtrace.report.figures.draw import MOST_SWEEPS, draw_all
from jtrace.report.figures.steering import behaviour_over_strength, shown_measures
from jtrace.report.figures.steering_comparison import behaviour_by_dimension
from jtrace.report.figures.steering_sources import brief_sources, gain_maps, trade_offs
from jtrace.steering.effects import BEST, OWN, RANDOM, UNSTEERED, effects, gains
from jtrace.steering.results import Estimate, vectors
from tests.tables import metrics_table, steered, steering_table, write_run, write_steering


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_behaviour_is_drawn_against_strength_with_its_band():
    measures = [("questions", "accuracy"), ("text", "perplexity")]
    table = steering_table(["chat"], [1.0, -1.0, 0.0], "llama@step3", "mine", measures)
    figure = behaviour_over_strength(vectors(table), [])
    drawn = lines(figure.axes[0])
    np.testing.assert_allclose(drawn["layer 1"].get_xdata(), [-1, 0, 1])
    np.testing.assert_allclose(drawn["layer 1"].get_ydata(), [0.25, 0.3, 0.35])
    assert drawn["unsteered"].get_ydata()[0] == 0.3
    band = figure.axes[0].collections[0].get_datalim(figure.axes[0].transData)
    np.testing.assert_allclose([band.y0, band.y1], [0.15, 0.45])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["questions, accuracy", "text, perplexity"]
    assert [ax.get_ylabel() for ax in figure.axes[:2]] == ["", "lower is better"]


def test_controls_are_grey_dashes_in_the_same_panel():
    vector, random, shuffled = vectors(
        pd.concat([steered({0: 0.5, 1: 0.6}, source=name) for name in ("a", "a:random", "a:shuffled")])
    )
    (ax,) = behaviour_over_strength([vector], [random, shuffled]).axes
    drawn = lines(ax)
    assert {"layer 1", "unsteered", "random control", "shuffled control"} <= drawn.keys()
    assert to_rgba(drawn["random control"].get_color()) == to_rgba("0.5")
    assert drawn["random control"].get_linestyle() != "-"


def test_what_layer_and_strength_were_chosen_on_has_no_panel():
    metrics = ("validation_accuracy", "accuracy", "chosen_accuracy")
    there = vectors(pd.concat([steered({0: 0.5, 1: 0.6}, metric=name) for name in metrics]))
    assert shown_measures(there) == [("stereoset", "accuracy")]


def test_perplexity_stands_beside_toxicity_and_capability_last():
    measures = [("mmlu", "accuracy"), ("perplexity", "perplexity"), ("toxigen", "toxicity"), ("sst2", "accuracy")]
    there = vectors(pd.concat([steered({0: 0.5, 1: 0.6}, task=task, metric=metric) for task, metric in measures]))
    assert [task for task, _ in shown_measures(there)] == ["sst2", "toxigen", "perplexity", "mmlu"]


def test_many_measures_are_cut_to_the_main_ones():
    tasks = ["stereoset", "confaide", "sst2", "truthfulqa", "mmlu"]
    names = {"truthfulqa": ["mc1", "mc2"], "stereoset": ["accuracy", "accuracy_published_prompt", "unparsable"]}
    measures = [(task, metric) for task in tasks for metric in names.get(task, ["accuracy", "accuracy_normalised"])]
    there = vectors(pd.concat([steered({0: 0.5, 1: 0.6}, task=task, metric=metric) for task, metric in measures]))
    assert len(measures) > 9
    assert shown_measures(there) == [
        ("stereoset", "accuracy"), ("stereoset", "unparsable"), ("confaide", "accuracy"), ("sst2", "accuracy"),
        ("truthfulqa", "mc2"), ("mmlu", "accuracy"),
    ]  # fmt: skip


def test_a_broken_model_s_perplexity_is_drawn_by_powers():
    for most, scale in ((1e6, "log"), (20, "linear")):
        there = vectors(steered({0: 10, 1: most}, task="perplexity", metric="perplexity"))
        assert behaviour_over_strength(there, []).axes[0].get_yscale() == scale


def sources_table():
    """Of checkpoints 9 and 10 and of the target itself; 10 gains most, and costs."""
    parts = [
        part
        for name, best in (("llama@s9", 0.53), ("llama@s10", 0.7), ("chat", 0.6))
        for part in (
            steered({-1: 0.4, 0: 0.5, 1: best}, source=name),
            steered({-1: 11, 0: 10, 1: 20}, source=name, task="perplexity", metric="perplexity"),
        )
    ]
    return pd.concat(parts)


def test_the_map_has_a_cell_per_checkpoint_and_strength_centred_at_no_gain_with_dots_where_intervals_part():
    ax, *_ = gain_maps(gains(effects(vectors(sources_table()))), "chat").axes
    (image,) = ax.get_images()
    np.testing.assert_allclose(image.get_array(), [[-0.1, 0, 0.03], [-0.1, 0, 0.2], [-0.1, 0, 0.1]])
    assert image.get_clim() == pytest.approx((-0.2, 0.2))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["s9", "s10", "own"]
    assert ax.collections[0].get_offsets().tolist() == [[0, 0], [0, 1], [2, 1], [0, 2], [2, 2]]


def test_rows_of_the_map_are_the_same_checkpoints_in_every_panel():
    first = steered({-1: 0.5, 0: 0.5, 1: 0.6}, source="llama@s10", task="sst2", dataset="sst2")
    figure = gain_maps(gains(effects(vectors(pd.concat([first, sources_table()])))), "chat")
    (image,) = figure.axes[0].get_images()
    np.testing.assert_allclose(image.get_array().filled(np.nan), [[np.nan] * 3, [0, 0, 0.1], [np.nan] * 3])


def test_trust_is_drawn_against_its_cost_a_point_per_checkpoint_and_strength():
    ax, *_ = trade_offs(gains(effects(vectors(sources_table()))), "chat", "perplexity_ratio").axes
    drawn = lines(ax)
    assert {"s9", "s10", "own"} <= drawn.keys()
    np.testing.assert_allclose(drawn["s10"].get_xydata(), [[1.1, -0.1], [1, 0], [2, 0.2]])


def test_checkpoints_are_named_as_briefly_as_tells_them_apart():
    names = brief_sources(["o--chat", "o--m@s10", "o--m@s9"], "o--chat")
    assert list(names.items()) == [("o--m@s9", "s9"), ("o--m@s10", "s10"), ("o--chat", "own")]
    assert brief_sources(["o--m@a", "o--n@a"], "chat") == {"o--m@a": "m@a", "o--n@a": "n@a"}
    assert brief_sources(["o--m", "p--m"], "chat") == {"o--m": "o--m", "p--m": "p--m"}


def test_dimensions_have_a_bar_per_role_with_its_interval():
    bars = {UNSTEERED: Estimate(0.5, 0.4, 0.6), OWN: Estimate(0.6, 0.5, 0.8), RANDOM: Estimate(0.5, 0.4, 0.6)}
    toxic = {UNSTEERED: Estimate(0.3, 0.2, 0.4), BEST: Estimate(0.1, float("nan"), float("nan"))}
    (ax,) = behaviour_by_dimension({("stereoset", "accuracy"): bars, ("toxigen", "toxicity"): toxic}).axes
    heights = {container.get_label(): [bar.get_height() for bar in container] for container in ax.containers[::2]}
    assert heights == {UNSTEERED: [0.5, 0.3], OWN: [0.6], BEST: [0.1], RANDOM: [0.5]}
    whisker = ax.containers[3].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(whisker[:, 1], [0.5, 0.8])
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "fairness\nstereoset, accuracy", "toxicity\ntoxigen, toxicity\n(lower is better)",
    ]  # fmt: skip


def drawn(path, *tables):
    metrics = metrics_table([None], layers=1)
    run = write_run(path / "run", metrics)
    write_steering(run, pd.concat(tables))
    return draw_all(run, metrics)


def test_each_figure_is_drawn_where_its_rows_are(tmp_path):
    figures = drawn(tmp_path, sources_table(), steered({-1: 0.5, 0: 0.5, 1: 0.51}, source="chat:random"))
    assert {figure.path.stem: figure.section for figure in figures} == {
        "steering_comparison_chat": "comparison",
        "steering_gain_map_chat": "comparison",
        "steering_trust_against_perplexity_chat": "comparison",
        "steering_chat_llama@s9_stereoset": "steering",
        "steering_chat_llama@s10_stereoset": "steering",
        "steering_chat_chat_stereoset": "steering",
    }
    assert "flatters" in figures[0].caption
    assert all("controls" not in figure.caption for figure in figures[3:5])
    assert "Grey lines are controls" in figures[5].caption


def test_protocols_have_figures_of_their_own_and_sound_does_not_flatter(tmp_path):
    table = steered({0: 0.5, 1: 0.6})
    sound = pd.concat([table, steered({1: 0.6}, metric="chosen_accuracy")]).assign(protocol="sound")
    figures = {figure.path.stem: figure.caption for figure in drawn(tmp_path, table, sound)}
    assert figures.keys() == {
        f"steering_{name}_{protocol}" for name in ("comparison_chat", "chat_ckpt_1_stereoset")
        for protocol in ("paper", "sound")
    }  # fmt: skip
    assert "flatters" not in figures["steering_comparison_chat_sound"]
    assert "chosen on validation rows" in figures["steering_comparison_chat_sound"]


@pytest.mark.slow
def test_of_many_vectors_the_own_and_the_strongest_other_are_drawn_over_strengths(tmp_path, monkeypatch):
    monkeypatch.setattr("jtrace.report.figures.draw.MOST_SWEEPS", 2)
    assert MOST_SWEEPS > 2
    figures = drawn(tmp_path, sources_table())
    sweeps = [figure.path.stem for figure in figures if figure.section == "steering"]
    assert sweeps == ["steering_chat_llama@s10_stereoset", "steering_chat_chat_stereoset"]
