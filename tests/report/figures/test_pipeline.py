"""The picture of a sweep's stages over time."""

from dataclasses import replace

import numpy as np
from matplotlib.colors import to_hex

from jtrace.report.figures.pipeline import MOST_ROWS, SHADES, brief, panel_rows, pauses_between, pipeline
from jtrace.runs.log import Span, by_process
from tests.runs.test_log import at


def sweep(count, process="node:1", start=0.0, fetch=10.0):
    """A sweep whose fetches follow each other without a gap."""
    return [at(start + i * fetch, fetch, 1, 3, 1, process, f"amber@ckpt_{i:03d}") for i in range(count)]


def bars(ax):
    """Left end and width of each bar, by lane."""
    lanes = [label.get_text() for label in ax.get_yticklabels()]
    found = {lane: [] for lane in lanes}
    for bar in ax.patches:
        found[lanes[round(bar.get_y() + bar.get_height() / 2)]].append((bar.get_x(), bar.get_width()))
    return found


def names(ax):
    return [text.get_text() for text in ax.texts]


def test_each_stage_has_a_lane_and_each_checkpoint_a_bar_in_it():
    (ax,) = pipeline(sweep(3)).axes
    found = bars(ax)
    assert list(found) == ["fetch", "read", "compute"]
    np.testing.assert_allclose(found["fetch"], [(0, 10), (10, 10), (20, 10)])
    np.testing.assert_allclose(found["read"], [(10, 1), (20, 1), (30, 1)])
    np.testing.assert_allclose(found["compute"], [(11, 4), (21, 4), (31, 4)])
    assert ax.get_xlabel() == "time (s)"
    assert (
        ax.get_title("left") == "3 checkpoints, 35.0 s; fetch 30.0 s, read 3.0 s, compute 12.0 s; wall / fetch = 1.17"
    )


def test_neighbours_differ_and_a_checkpoint_keeps_its_shade():
    (ax,) = pipeline(sweep(3)).axes
    shades = [to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert shades == [SHADES[0], SHADES[1], SHADES[0]] * 3


def test_local_folders_have_no_lane_for_fetching():
    (ax,) = pipeline(sweep(3, fetch=0)).axes
    assert list(bars(ax)) == ["read", "compute"]
    assert "fetch" not in ax.get_title("left")


def test_names_stand_where_they_fit():
    (few,) = pipeline(sweep(3)).axes
    assert {"ckpt_000", "ckpt_002"} <= set(names(few))
    (some,) = pipeline(sweep(24)).axes
    assert len(names(some)) >= 24
    assert all(text.get_rotation() == 90 for text in some.texts)
    (many,) = pipeline(sweep(360)).axes
    assert not names(many)
    assert all(width > 0 for lane in bars(many).values() for _, width in lane)


def test_checkpoints_of_several_models_keep_their_models_names():
    assert brief(["a@step1", "a@step2"]) == ["step1", "step2"]
    assert brief(["a@step1", "b@step1"]) == ["a@step1", "b@step1"]
    assert brief(["folder", "other"]) == ["folder", "other"]


def test_the_unit_of_time_fits():
    for fetch, unit, last in [(10, "s", 35), (200, "min", 605 / 60), (10_000, "h", 30_005 / 3600)]:
        (ax,) = pipeline(sweep(3, fetch=fetch)).axes
        assert ax.get_xlabel() == f"time ({unit})"
        np.testing.assert_allclose(ax.get_xlim(), (0, last))


def test_a_clock_that_was_set_back_meanwhile_is_no_error():
    (ax,) = pipeline([replace(at(0, 10, 1, 3), extract=Span(0.0, 0.0), statistics=Span(0.0, 0.0))]).axes
    assert ax.get_xlim() == (0, 11)


def test_a_pause_between_commands_is_cut_out_and_marked():
    resumed = sweep(2) + sweep(2, "node:2", start=1025)
    assert pauses_between(by_process(resumed)) == [Span(25, 1025)]
    (ax,) = pipeline(resumed).axes
    np.testing.assert_allclose(bars(ax)["fetch"], [(0, 10), (10, 10), (25, 10), (35, 10)])
    (mark,) = ax.get_lines()
    assert list(mark.get_xdata()) == [25, 25]
    assert ax.get_xlabel() == "time (s); 16.7 min without any command cut out (dashed)"
    assert "4 checkpoints" not in ax.get_title("left")  # two of them, each traced twice
    assert "2 checkpoints in 2 commands, 50.0 s" in ax.get_title("left")


def test_hosts_and_commands_at_the_same_time_have_panels_of_their_own():
    on_one_host = sweep(2, "node:1"), sweep(2, "node:2", start=5), sweep(2, "node:3", start=100)
    elsewhere = sweep(2, "other.example.org:1", start=200)
    passages = [*elsewhere, *(passage for command in on_one_host for passage in command)]
    first, second, third = on_one_host
    assert panel_rows(by_process(passages)) == [[first, third], [second], [elsewhere]]
    titles = [ax.get_title("left").partition(":")[0] for ax in pipeline(passages).axes]
    assert titles == ["node", "node", "other"]


def test_of_a_large_cluster_a_handful_is_shown_and_that_is_said():
    figure = pipeline([passage for host in range(9) for passage in sweep(3, f"node{host}:1", start=host)])
    assert len(figure.axes) == MOST_ROWS
    assert figure.axes[-1].get_xlabel() == f"time (s); {MOST_ROWS} of 9 hosts or processes shown"
    np.testing.assert_allclose([ax.get_xlim() for ax in figure.axes], [(0, 43)] * MOST_ROWS)
