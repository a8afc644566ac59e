"""The report's sections on both protocols, on dynamics and on transfer, from tables alone."""

import pandas as pd
import pytest

from jtrace.report.compare_protocols import side_by_side
from jtrace.report.findings import finding
from jtrace.report.sections.dynamics import MOST_OPEN, angle_blocks, course_blocks, transfer_blocks
from jtrace.report.sections.protocols import protocol_blocks
from jtrace.report.standings import standings
from tests.report.reading import words
from tests.tables import both_protocols, dynamics_tables, metrics_table, onset_row

STEPS = [0, 20, 100]


def protocols(metrics):
    stand = standings(metrics)
    return words(protocol_blocks(metrics, side_by_side(stand, [finding(standing) for standing in stand])))


def section(blocks, datasets=("one", "other"), layers=3):
    """The words of a section on dynamics."""
    metrics = both_protocols(STEPS, layers=layers, datasets=datasets)
    return words(blocks(dynamics_tables(STEPS, datasets, layers), standings(metrics)))


def test_both_protocols_stand_side_by_side_with_baselines_and_nulls():
    page = protocols(both_protocols(STEPS, datasets=["mine"]))
    assert "mine paper 2 0.900 – 1.000 – – 0.600 0.520 – –" in page
    assert "mine sound 2 0.900 0.870 to 0.930 1.000 0.040 0.004 0.600 0.520 0.550 0.500" in page
    assert "mine paper 2 5.100 – – – –" in page
    assert "mine sound 2 5.100 2.000 3.100 2.700 to 3.500 0.005" in page
    assert "On 0 of 1 sets the two differ in something." in page
    assert "Where paper and sound agree (6 rows)" in page
    assert "mine llama best layer agree 2 (0.90) 2 (0.90, 0.87 to 0.93)" in page


def test_what_they_disagree_in_is_said_set_by_set():
    metrics = both_protocols(STEPS, datasets=["stereoset", "mine"])
    gains = (metrics["metric"] == "gain_over_text") & (metrics["dataset"] == "mine")
    metrics.loc[gains, ["value", "ci_low", "ci_high"]] = [0.01, -0.02, 0.04]
    page = protocols(metrics)
    assert "On 1 of 2 sets the two differ in something." in page
    differing = page.partition("Where paper and sound differ")[2].partition("Where paper and sound agree")[0]
    assert (
        "mine llama probe above its baselines differ: above under paper alone; sound: not above text only 0.90 against "
        "text only 0.60, chance 0.52 0.01 (−0.02" in differing
    )
    assert "stereoset" not in differing


def test_the_course_of_pre_training_is_told_in_tables():
    page = section(course_blocks)
    for expected in (
        "one llama step 20 step 10 to step 30 above the largest of text only, chance, random initialisation and 0.5",
        "one llama paper 2 I(X;T) step 20 step 10 to step 30 2.000 1.500 0.005",
        "one llama sound 2 I(X;T) above its null step 20 step 10 to step 30 0.300 -0.200",
        "one llama sound 2 probe accuracy I(X;T) 3 0.90 (0.70 to 0.95) 0.80 (0.60 to 0.85) 0.10 (−0.10 to 0.15)",
    ):
        assert expected in page


def test_how_vectors_turn_is_told_by_cosines_and_principal_angles():
    page = section(angle_blocks)
    assert "set layer step0 step20 one 2 0.800 0.900 other 2 0.800 0.900" in page
    assert "one other 2 -0.500" in page
    assert "step0 30.000 60.000" in page


def test_transfer_is_told_between_sets_and_between_checkpoints():
    page = section(transfer_blocks)
    assert "one 2 1.00 (0.98 to 1.02) 0.70 (0.67 to 0.73)" in page
    assert "one llama 2 0.900 0.700 0.700 0.900" in page


@pytest.mark.parametrize(("at", "row"), [(20, "step 20 step 10 to step 30"), (float("nan"), "not clear –")])
def test_an_onset_is_told_where_it_is_clear_whatever_layer_looks_best(at, row):
    metrics = both_protocols(STEPS, layers=1, datasets=["mine"])
    page = words(course_blocks({"onsets": pd.DataFrame([onset_row(at)])}, standings(metrics)))
    assert f"mine llama {row} above the largest of text only" in page


def test_long_tables_are_folded():
    page = section(course_blocks, [f"set{number}" for number in range(MOST_OPEN // 2 + 1)])
    assert f"Turns of I(X;T) at the layer of the best probe ({MOST_OPEN + 2} rows)" in page


def test_without_dynamics_there_is_no_section():
    for blocks in (course_blocks, angle_blocks, transfer_blocks):
        assert list(blocks({}, standings(metrics_table(STEPS)))) == []
    assert list(protocol_blocks(metrics_table(STEPS), [])) == []
