"""Figures of the course of pre-training, of vectors' angles and of transfer."""

import numpy as np
import pandas as pd
import pytest

from jtrace.dynamics.trajectory import trajectories
from jtrace.report.figures import draw_transfer, dynamics
from jtrace.report.figures.angles import angles_over_training, cosine_maps, square
from jtrace.report.figures.correlation import correlations_of_measures
from jtrace.report.figures.draw import draw_all
from jtrace.report.figures.draw_transfer import auroc_between_sets
from jtrace.report.figures.onsets import onsets_by_layer
from jtrace.report.figures.transfer import transfer_between_checkpoints, transfer_between_sets
from jtrace.report.figures.turns import turning_points
from jtrace.report.standings import standings
from tests.tables import both_protocols, dynamics_tables, onset_row, sound_table, turn_row, write_run

DYNAMICS = {
    *("onsets", "turns_paper", "turns_sound", "correlations_paper", "correlations_sound"),
    *("cosines_checkpoints", "cosines_layers", "cosines_sets", "subspaces", "transfer_checkpoints"),
}


@pytest.mark.slow
def test_dynamics_are_drawn_where_their_tables_are(tmp_path):
    steps, datasets = [0, 5, 20], ["one", "other"]
    metrics = both_protocols(steps, datasets=datasets)
    run = write_run(tmp_path / "run", metrics)
    assert not DYNAMICS & {figure.path.stem for figure in draw_all(run, metrics)}
    run.write_dynamics(dynamics_tables(steps, datasets))
    found = draw_all(run, metrics)
    assert {figure.path.stem for figure in found} >= DYNAMICS
    assert {figure.section for figure in found} >= {"dynamics", "angles", "transfer"}
    assert all(figure.alt and figure.caption for figure in found)


@pytest.fixture
def unwritten(monkeypatch):
    """Figures by file name as they would be written, which takes most of their time."""
    figures = {}

    def keep(figure, stem):
        figures[stem.name] = figure
        return stem.with_suffix(".png")

    for module in (dynamics, draw_transfer):
        monkeypatch.setattr(module, "save", keep)
    return figures


def titles_of(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_each_table_of_dynamics_is_a_figure_with_a_panel_per_set(tmp_path, unwritten):
    steps, datasets = [0, 5, 20], ["one", "other"]
    metrics = both_protocols(steps, datasets=datasets)
    run = write_run(tmp_path / "run", metrics)
    run.write_dynamics(dynamics_tables(steps, datasets))
    drawn = [*dynamics.draw_dynamics(run, metrics, tmp_path), *draw_transfer.draw_transfer(run, metrics, tmp_path)]
    assert {figure.path.stem for figure in drawn} == set(unwritten) == DYNAMICS | {"transfer_sets"}
    # The course is always a model's, by name; transfer names it where a run has several.
    assert all((" of llama" in figure.title) == (figure.section != "transfer") for figure in drawn)
    assert "one panel per statement set (2 statement sets)" in drawn[0].alt
    for stem in ("onsets", "turns_paper", "turns_sound", "cosines_layers", "transfer_checkpoints"):
        assert [title.partition(",")[0].split()[0] for title in titles_of(unwritten[stem])] == datasets
    # Cosines of vectors that turn by 0.1 from checkpoint to checkpoint, and of two sets that point apart.
    cells = [text.get_text() for text in unwritten["cosines_checkpoints"].axes[0].texts]
    assert cells == ["1.00", "0.90", "0.80", "0.90", "1.00", "0.90", "0.80", "0.90", "1.00"]
    assert [text.get_text() for text in unwritten["cosines_sets"].axes[0].texts] == ["1.00", "−0.50", "−0.50", "1.00"]


def test_models_of_a_run_have_figures_of_their_own(tmp_path, unwritten):
    """Rows of the one are in none of the other's; a table that is not there is no figure."""
    steps = [0, 5, 20]
    metrics = pd.concat([both_protocols(steps, datasets=["mine"], model=model) for model in ("llama", "olmo")])
    run = write_run(tmp_path / "run", metrics)
    tables = dynamics_tables(steps)
    run.write_dynamics({"onsets": tables["onsets"], "subspaces": tables["subspaces"], "transfer": tables["transfer"]})
    drawn = [*dynamics.draw_dynamics(run, metrics, tmp_path), *draw_transfer.draw_transfer(run, metrics, tmp_path)]
    assert [(figure.path.stem, figure.title) for figure in drawn] == [
        ("onsets_llama", "Onset of each layer of llama"),
        ("subspaces_llama", "The sets' common space of llama"),
        ("transfer_checkpoints_llama", "Probes of one checkpoint at another of llama"),
    ]


def test_of_one_checkpoint_or_one_set_there_is_no_figure_of_dynamics_or_transfer(tmp_path):
    metrics = both_protocols([7], datasets=["mine"], layers=2)
    stems = {figure.path.stem for figure in draw_all(write_run(tmp_path / "run", metrics), metrics)}
    assert stems == {
        *("probe_accuracy_over_layers_paper", "probe_accuracy_over_layers_sound"),
        *("information_over_layers_paper", "information_over_layers_sound"),
    }


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def curve_of(steps=(0, 20, 100)):
    return trajectories(sound_table(steps, datasets=["mine"]))[0]


def test_onsets_are_dots_with_bars_and_open_at_the_rim_where_they_never_come():
    rows = [onset_row(20, layer=1), onset_row(np.nan, layer=2), onset_row(20, layer=3, ci_high=np.nan)]
    (ax,) = onsets_by_layer(pd.DataFrame(rows), curve_of(), {"mine": "mine"}).axes
    drawn = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(drawn["onset"].get_xdata(), [20, 20])
    assert drawn["not clear"].get_fillstyle() == "none"
    assert drawn["not clear"].get_xdata()[0] > 1  # in shares of the panel
    (bars,) = ax.collections
    assert [bar[:, 0].tolist() for bar in bars.get_segments()] == [[10, 30], [10, 100]]  # open to the last checkpoint


@pytest.mark.parametrize(("p", "label"), [(0.005, "peak"), (0.4, "peak, no clear turn")])
def test_a_turn_is_marked_with_its_p_value(p, label):
    turns = pd.DataFrame([turn_row("sound", 20, p)])
    changes = dynamics_tables([0, 20, 100])["change_points"]
    figure = turning_points(curve_of(), turns, changes[changes["protocol"] == "sound"], {"mine": 2}, "I(X;T)")
    (ax,) = figure.axes
    drawn = lines(figure)
    assert drawn[label].get_xdata() == [20, 20]
    assert [text.get_text() for text in ax.texts] == [f"p = {p:.3f}"]
    np.testing.assert_allclose(drawn["change point"].get_xdata(), [20])
    assert ax.patches[0].get_extents().width > 0  # the interval of the peak


def test_cosines_fill_both_halves_of_a_square():
    found = square("mine", ["a", "b", "c"], {("a", "b"): 0.5, ("c", "b"): -0.5}, ["A", "B", "C"])
    np.testing.assert_allclose(found.values, [[1, 0.5, np.nan], [0.5, 1, -0.5], [np.nan, -0.5, 1]])
    ax = cosine_maps([found], "").axes[0]
    assert [text.get_text() for text in ax.texts] == ["1.00", "0.50", "0.50", "1.00", "−0.50", "−0.50", "1.00"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A", "B", "C"]


def test_principal_angles_are_lines_over_training():
    figure = angles_over_training(dynamics_tables([0, 20, 100])["subspaces"], curve_of())
    np.testing.assert_allclose(lines(figure)["angle 2"].get_ydata(), [60, 60])
    np.testing.assert_allclose(lines(figure)["angle 1"].get_xdata(), [0, 20])


def test_transfer_between_sets_has_its_numbers_in_the_cells():
    values = np.array([[0.9, 0.3], [np.nan, 0.8]])
    ax = transfer_between_sets(values, ["a, layer 1", "b, layer 2"], ["a", "b"]).axes[0]
    assert [text.get_text() for text in ax.texts] == ["0.90", "0.30", "0.80"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a, layer 1", "b, layer 2"]


def test_transfer_between_checkpoints_has_the_probe_upwards():
    table = dynamics_tables([0, 20, 100])["transfer"]
    first_at_last = (table["trained_at"] == "llama@step0") & (table["tested_at"] == "llama@step100")
    table.loc[first_at_last, "auroc"] = 0.1
    ax = transfer_between_checkpoints(table, curve_of(), {"mine": 2}, {"mine": "mine"}).axes[0]
    np.testing.assert_allclose(ax.get_images()[0].get_array()[0], [0.9, 0.7, 0.1])


def test_the_probe_of_a_set_is_tested_on_others_at_its_own_best_layer(tmp_path):
    metrics = sound_table([0], datasets=["one", "other"])
    better = (metrics["metric"] == "probe_accuracy") & (metrics["dataset"] == "one") & (metrics["layer"] == 1)
    metrics.loc[better, "value"] = 0.95
    at_1 = (metrics["metric"] == "transfer_auroc:one") & (metrics["layer"] == 1)
    metrics.loc[at_1, "value"] = 0.65
    found = auroc_between_sets(standings(metrics))
    np.testing.assert_allclose(found, [[0.8, 0.65], [0.7, 0.9]])


def test_three_kinds_of_correlation_stand_beside_each_other():
    table = dynamics_tables([0, 20, 100])["correlations"]
    figure = correlations_of_measures(table[table["protocol"] == "sound"], {"mine": "mine"})
    assert {name: round(float(line.get_xdata()[0]), 1) for name, line in lines(figure).items() if "r" in name} == {
        "Pearson's r": 0.9,
        "Spearman's ρ": 0.8,
        "Pearson's r of changes": 0.1,
    }
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["probe accuracy,\nI(X;T)"]
