"""The report's sections on both protocols, on dynamics and on transfer, from tables alone."""

from collections import defaultdict

import pandas as pd
import pytest

from jtrace.report.compare_protocols import side_by_side
from jtrace.report.sections.dynamics import MOST_OPEN, dynamics_sections
from jtrace.report.sections.protocols import protocols_section
from jtrace.report.standings import standings
from tests.report.test_build import Page
from tests.tables import both_protocols, dynamics_tables, metrics_table, onset_row

STEPS = [0, 20, 100]
NO_FIGURES = defaultdict(str)


def side_by_side_words(metrics):
    return Page(protocols_section(metrics, side_by_side(metrics))).words


def course(datasets=("one", "other"), layers=3):
    """Words of each section, by title."""
    metrics = both_protocols(STEPS, layers=layers, datasets=datasets)
    found = dynamics_sections(dynamics_tables(STEPS, datasets, layers), standings(metrics), NO_FIGURES)
    return {section.title: Page(section.content).words for section in found}


def test_both_protocols_stand_side_by_side_with_baselines_and_nulls():
    words = side_by_side_words(both_protocols(STEPS, datasets=["mine"]))
    assert "mine paper 2 0.900 – 1.000 – – 0.600 0.520 – –" in words
    assert "mine sound 2 0.900 0.870 to 0.930 1.000 0.040 0.004 0.600 0.520 0.550 0.500" in words
    assert "mine paper 2 5.100 – – – –" in words
    assert "mine sound 2 5.100 2.000 3.100 2.700 to 3.500 0.005" in words
    assert "On 0 of 1 sets the two differ in something." in words
    assert "They agree: the best layer is 2 under both;" in words


def test_what_they_disagree_in_is_said_set_by_set():
    metrics = both_protocols(STEPS, datasets=["stereoset", "mine"])
    gains = (metrics["metric"] == "gain_over_text") & (metrics["dataset"] == "mine")
    metrics.loc[gains, ["value", "ci_low", "ci_high"]] = [0.01, -0.02, 0.04]
    words = side_by_side_words(metrics)
    assert "On 1 of 2 sets the two differ in something." in words
    assert "mine Paper calls the probe clearly above its baselines" in words
    assert "fairness They agree" in words


def test_the_course_of_pre_training_is_told_in_tables():
    words = course()["The course of pre-training"]
    for expected in (
        "one llama step 20 step 10 to step 30 above the largest of text only, chance, random initialisation and 0.5",
        "one llama paper 2 I(X;T) step 20 step 10 to step 30 2.000 1.500 0.005",
        "one llama sound 2 I(X;T) above its null step 20 step 10 to step 30 0.300 -0.200",
        "one llama sound 2 probe accuracy I(X;T) 3 0.90 (0.70 to 0.95) 0.80 (0.60 to 0.85) 0.10 (−0.10 to 0.15)",
    ):
        assert expected in words


def test_how_vectors_turn_is_told_by_cosines_and_principal_angles():
    words = course()["How vectors turn"]
    assert "set layer step0 step20 one 2 0.800 0.900 other 2 0.800 0.900" in words
    assert "one other 2 -0.500" in words
    assert "step0 30.000 60.000" in words


def test_transfer_is_told_between_sets_and_between_checkpoints():
    words = course()["Transfer"]
    assert "one 2 1.00 (0.98 to 1.02) 0.70 (0.67 to 0.73)" in words
    assert "one llama 2 0.900 0.700 0.700 0.900" in words


@pytest.mark.parametrize(("at", "told"), [(20, "step 20 step 10 to step 30"), (float("nan"), "not clear –")])
def test_an_onset_is_told_where_it_is_clear_whatever_layer_looks_best(at, told):
    metrics = both_protocols(STEPS, layers=1, datasets=["mine"])
    (found,) = dynamics_sections({"onsets": pd.DataFrame([onset_row(at)])}, standings(metrics), NO_FIGURES)
    assert f"mine llama {told} above the largest of text only" in Page(found.content).words


def test_long_tables_are_folded():
    words = course([f"set{number}" for number in range(MOST_OPEN // 2 + 1)])["The course of pre-training"]
    assert f"Turns of I(X;T) at the layer of the best probe ({MOST_OPEN + 2} rows)" in words


def test_without_dynamics_there_is_no_section():
    assert list(dynamics_sections({}, standings(metrics_table(STEPS)), NO_FIGURES)) == []
