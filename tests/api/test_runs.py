"""Runs in Python: tracing, and what a run directory holds."""

import subprocess
import sys

import pandas as pd
import pytest

import jtrace
from jtrace import InputError
from tests.conftest import ROOT


def test_a_run_is_read_as_it_was_written(run):
    again = jtrace.open_run(run.path)

    assert again.checkpoints == ["chat"]
    assert again.failures == {}
    pd.testing.assert_frame_equal(again.metrics, pd.read_parquet(run.path / "metrics"), check_dtype=False)
    assert set(again.vectors("chat")) == {"mine"}
    assert again.dynamics("onsets").empty  # of one checkpoint there is no course
    assert list(again.best_layers()["dataset"]) == ["mine"]
    assert repr(again) == f"Run({str(run.path)!r}: 1 checkpoints traced; sets mine)"
    assert "<table" in again._repr_html_()


def test_the_same_call_does_nothing_again(place, run, data, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.parquet")}
    jtrace.trace(str(place / "chat"), [data], run.path, protocol=["paper"])

    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*.parquet")} == before
    assert capsys.readouterr().out == ""


def test_the_report_is_written_where_it_is_asked_for(run, tmp_path):
    assert run.report(tmp_path / "page.html") == tmp_path / "page.html"
    assert "mine" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "loud"}, "protocol='loud': known are paper, sound"),
        ({"protocol": []}, r"protocol=\[\]: known are paper, sound"),
        ({"vector_kinds": ["mean"]}, "vector_kinds: no kind 'mean'"),
        ({"checkpoints": "nowhere"}, "^checkpoints: 'nowhere' is neither"),
        ({"statements": []}, "statements: names no set"),
        ({"disk_budget": "much"}, "^disk_budget"),
        ({"layers": [7]}, "none of 1 checkpoints could be traced: layers asks for 7; chat has layers 0 to 2"),
    ],
)
def test_bad_arguments_are_named(place, data, tmp_path, arguments, message):
    given = {"checkpoints": place / "chat", "statements": data, "out": tmp_path / "out"} | arguments
    with pytest.raises(InputError, match=message) as caught:
        jtrace.trace(**given)
    assert "--" not in str(caught.value)


def test_two_sets_of_one_name_are_refused(place, data, tmp_path):
    with pytest.raises(InputError, match="two sets are called 'mine'"):
        jtrace.trace(place / "chat", [data, data], tmp_path / "out")


def test_what_a_run_does_not_hold_is_named(run, tmp_path):
    with pytest.raises(InputError, match="no files of mass_mean vectors of 'other'; there are those of chat"):
        run.vectors("other")
    with pytest.raises(InputError, match="table='onset': there are onsets, change_points"):
        run.dynamics("onset")
    with pytest.raises(InputError, match="no run directory"):
        jtrace.open_run(tmp_path)


def test_a_set_of_the_world_is_loaded_by_name():
    assert jtrace.load_statements("world-fairness:seed=1").name == "world-fairness"
    with pytest.raises(InputError, match=r"stands for world-reliability, .*; name one"):
        jtrace.load_statements("world")


def test_importing_loads_no_jax_and_is_quick():
    code = "import sys, jtrace; assert set(jtrace.__all__) <= set(dir(jtrace)); print('jax' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_every_name_is_there():
    assert all(getattr(jtrace, name) is not None for name in jtrace.__all__)
    with pytest.raises(AttributeError, match="module 'jtrace' has no attribute 'tracer'"):
        _ = jtrace.tracer
