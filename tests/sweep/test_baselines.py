"""Scores on random params: computed once for checkpoints that are alike, kept in the run, drawn anew for others."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from jtrace.data.loading import read_statements
from jtrace.errors import WriteError
from jtrace.probing.sound_set import SoundConfig
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep import baselines
from jtrace.sweep.baselines import Baselines, Untrained
from tests.tables import both_protocols, write_run

MODEL = Untrained("a decoder", (0, 1), "words", "float32")


@pytest.fixture
def computed(monkeypatch):
    """Counts computations, each of which gives its own number."""
    calls = []

    def scores(model, packed, sets, seed, layout, progress):
        calls.append((model, [one.statements.name for one in sets], seed))
        return {one.statements.name: np.full((2, 3, 1, 4), len(calls), np.float32) for one in sets}

    monkeypatch.setattr(baselines, "random_init_scores", scores)
    return calls


@pytest.fixture
def begun(tmp_path):
    """Baselines of a run, as a process begins with them."""
    rows = "".join(f"text {i} of some,{i % 2}\n" for i in range(40))
    (tmp_path / "mine.csv").write_text("statement,label\n" + rows)
    statements = read_statements(str(tmp_path / "mine.csv"))
    write_run(tmp_path / "run", both_protocols([0]))

    def begin(writes=True, agrees=True, **config):
        coordinator = SimpleNamespace(writes=writes, agreed=lambda mine: mine and agrees)
        return Baselines([statements], SoundConfig(**config), RunDirectory(tmp_path / "run"), coordinator)

    return begin


def test_alike_checkpoints_are_held_against_the_same_scores(begun, computed):
    one = begun()
    first, again = (one.random_init(dataclasses.replace(MODEL), None)["mine"] for _ in range(2))
    assert again is first
    assert computed == [(MODEL, ["mine"], 0)]


@pytest.mark.parametrize(
    "change", [{"architecture": "another"}, {"layers": (0,)}, {"tokenizer": "letters"}, {"dtype": "bfloat16"}]
)
def test_another_architecture_or_tokeniser_is_drawn_anew(begun, computed, change):
    one = begun()
    one.random_init(MODEL, None)
    np.testing.assert_array_equal(one.random_init(dataclasses.replace(MODEL, **change), None)["mine"], 2)


def test_a_later_process_reads_what_the_run_keeps(begun, computed):
    begun().random_init(MODEL, None)
    np.testing.assert_array_equal(begun().random_init(MODEL, None)["mine"], 1)
    assert len(computed) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"folds": 4}, {"repeats": 2}])
def test_scores_of_another_split_are_not_those_that_the_run_keeps(begun, computed, change):
    begun().random_init(MODEL, None)
    begun(**change).random_init(MODEL, None)
    assert len(computed) == 2


def test_settings_that_no_probe_is_fitted_by_leave_the_scores_as_they_are(begun, computed):
    begun().random_init(MODEL, None)
    begun(permutations=7, draws=300).random_init(MODEL, None)
    assert len(computed) == 1


def test_of_several_that_go_in_step_all_compute_where_one_lacks_them(begun, computed):
    begun().random_init(MODEL, None)
    np.testing.assert_array_equal(begun(agrees=False).random_init(MODEL, None)["mine"], 2)


def test_one_process_alone_writes(begun, computed):
    begun(writes=False).random_init(MODEL, None)
    begun().random_init(MODEL, None)
    assert len(computed) == 2


def test_a_full_disk_costs_no_more_than_the_next_computation(begun, computed, monkeypatch):
    def full(run, digest, arrays):
        raise WriteError("no space")

    monkeypatch.setattr(RunDirectory, "write_baseline", full)
    np.testing.assert_array_equal(begun().random_init(MODEL, None)["mine"], 1)
    begun().random_init(MODEL, None)
    assert len(computed) == 2
