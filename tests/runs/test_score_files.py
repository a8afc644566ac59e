"""Files of held-out scores."""

import numpy as np
import pandas as pd
import pytest

from jtrace.errors import InputError
from jtrace.probing.records import HeldOut
from jtrace.runs.score_files import read_scores, write_scores

PAPER = HeldOut("mine", "paper", 2, np.array([8, 9]), np.array([0, 1]), np.array([-1.5, 0.25], np.float32))
SOUND = HeldOut("mine", "sound", 1, np.arange(3), np.array([0, 1, 1]), np.array([0, 1, 2], np.float32))


def test_scores_are_a_row_per_statement_and_protocol(tmp_path):
    write_scores(tmp_path / "a.parquet", [PAPER, SOUND])
    table = read_scores(tmp_path / "a.parquet")
    assert list(table.columns) == ["dataset", "protocol", "layer", "row", "label", "score"]
    assert table["row"].tolist() == [8, 9, 0, 1, 2]
    assert table[table["protocol"] == "paper"][["layer", "label", "score"]].to_numpy().tolist() == [
        [2, 0, -1.5],
        [2, 1, 0.25],
    ]


def test_no_file_is_none_and_no_scores_are_an_empty_table(tmp_path):
    assert read_scores(tmp_path / "a.parquet") is None
    write_scores(tmp_path / "a.parquet", [])
    assert read_scores(tmp_path / "a.parquet").empty


def test_a_damaged_file_and_another_table_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_scores(path, [PAPER])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"a\.parquet: damaged"):
        read_scores(path)
    pd.DataFrame({"x": [1]}).to_parquet(path)
    with pytest.raises(InputError, match="no table of held-out scores"):
        read_scores(path)
