"""Parts that all figures share."""

from jtrace.report.figures.style import file_part


def test_a_long_name_is_cut_to_a_part_of_a_file_s_name_and_stays_apart():
    assert file_part("org/model@step 3") == "org-model@step-3"
    one, other = (file_part("ä" * 200 + end) for end in "ab")
    assert one != other
    assert len(one.encode()) < 100
