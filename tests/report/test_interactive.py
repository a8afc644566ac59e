"""Data of the page's interactive part, as the page holds it."""

import json

import numpy as np
import pandas as pd

from jtrace.data.loading import read_all
from jtrace.probing.records import HeldOut
from jtrace.report.interactive import MOST_CHECKPOINTS, MOST_ROWS, MOST_STATEMENTS, page_data, page_tables, tables_of
from jtrace.runs.log import append
from jtrace.runs.score_files import write_scores
from tests.runs.test_log import at
from tests.tables import both_protocols, dynamics_tables, metrics_table, write_projections, write_run

NONE = pd.DataFrame()
RECORD = {"data": {}, "sets": {}}


def read(tables):
    return json.loads(page_data(tables))["tables"]


def test_columns_are_one_value_or_levels_and_codes_or_numbers():
    table = pd.DataFrame({"a": ["x", "x"], "b": ["x", "y"], "c": [1.0, 0.1234567], "d": [float("nan"), 2.0]})
    assert read({"t": table})["t"] == {
        "a": {"all": "x"},
        "b": {"levels": ["x", "y"], "codes": [0, 1]},
        "c": [1, 0.12346],
        "d": [None, 2],
    }


def test_no_text_can_end_the_script_and_control_characters_are_shown():
    hostile = "</script><!--<script>&\u2028\x1b\udc80"
    text = page_data({"t": pd.DataFrame({"a": [hostile]}, dtype=object)})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text)["tables"]["t"]["a"]["all"] == "</script><!--<script>&\u2028\\x1b\\udc80"


def test_metrics_are_in_order_with_what_can_be_believed_first(tmp_path):
    metrics = both_protocols([100, 20, 3], layers=2, datasets=["one", "other"])
    shown = page_tables(write_run(tmp_path / "run", metrics), RECORD, metrics, NONE, {})["metrics"]
    assert list(shown["protocol"].unique()) == ["sound", "paper"]
    assert list(shown["checkpoint"].unique()) == ["llama@step3", "llama@step20", "llama@step100"]
    assert shown["metric"].iloc[0] == "probe_accuracy"
    assert not shown["metric"].str.startswith("transfer").any()
    assert shown["ci_low"].notna().any()


def test_of_many_checkpoints_some_are_there_and_a_model_that_was_traced_once_is_another(tmp_path):
    metrics = pd.concat([metrics_table(range(60), layers=1), metrics_table([None], layers=1, model="chat")])
    shown = page_tables(write_run(tmp_path / "run", metrics), RECORD, metrics, NONE, {})["metrics"]
    counts = shown.groupby("model")["checkpoint"].nunique()
    assert counts.to_dict() == {"llama": MOST_CHECKPOINTS, "chat": 1}
    assert {"llama@step0", "llama@step59"} <= set(shown["checkpoint"])


def test_checkpoints_that_are_models_of_their_own_are_one_course(tmp_path):
    metrics = pd.concat([metrics_table([None], layers=1, model=f"m{number}") for number in range(3)])
    shown = page_tables(write_run(tmp_path / "run", metrics), RECORD, metrics, NONE, {})["metrics"]
    assert list(shown["model"].unique()) == ["all models"]
    assert list(shown["checkpoint"].unique()) == ["m0", "m1", "m2"]


def test_points_are_those_of_the_best_layer(tmp_path):
    metrics = metrics_table([0, 100])
    run = write_run(tmp_path / "run", metrics)
    write_projections(run, "llama@step100")
    points = page_tables(run, RECORD, metrics, NONE, {})["projections"]
    assert set(points["layer"]) == {2}  # where `metrics_table` has its best probe
    assert set(points["checkpoint"]) == {"llama@step100"}
    assert len(points) == 2 * 30


def test_empty_and_huge_tables_stay_in_the_run_directory(tmp_path):
    metrics = metrics_table([0, 100])
    huge = pd.DataFrame({"a": range(MOST_ROWS + 1)})
    dynamics = {**dynamics_tables([0, 100]), "onsets": NONE, "turns": huge}
    tables = page_tables(write_run(tmp_path / "run", metrics), RECORD, metrics, NONE, dynamics)
    assert "steering" not in tables
    assert tables_of("dynamics", tables) == ["change_points", "correlations"]
    assert page_tables(write_run(tmp_path / "none", metrics), RECORD, metrics[:0], NONE, {}) == {}


def scored(run, name, rows, protocol="sound"):
    labels = np.arange(len(rows)) % 2
    scores = np.where(labels, 1.0, -1.0).astype(np.float32)
    write_scores(run.scores_path(name), [HeldOut("mine", protocol, 2, np.asarray(rows), labels, scores)])


def test_statements_have_texts_where_the_set_is_at_hand_and_scores_where_they_were_kept(tmp_path):
    (tmp_path / "mine.csv").write_text("statement,label\n" + "".join(f"Text {row}.,{row % 2}\n" for row in range(900)))
    (statements,) = read_all([str(tmp_path / "mine.csv")])
    record = {"data": {"mine": statements.fingerprint}, "sets": {"mine": {"source": statements.source}}}
    metrics = metrics_table([0, 100], layers=3, datasets=["mine"])
    run = write_run(tmp_path / "run", metrics)
    scored(run, "llama@step100", range(900))
    tables = page_tables(run, record, metrics, NONE, {})
    assert len(tables["scores"]) == MOST_STATEMENTS
    assert set(tables["scores"]["checkpoint"]) == {"llama@step100"}
    assert set(tables["scores"]["row"]) <= set(tables["statements"]["row"])
    assert tables["statements"]["text"].iloc[-1] == "Text 899."
    (tmp_path / "mine.csv").unlink()
    bare = page_tables(run, record, metrics, NONE, {})["statements"]
    assert bare["text"].isna().all()
    assert set(bare["row"]) == set(tables["scores"]["row"])


def test_a_row_that_the_set_does_not_have_is_left_out(tmp_path):
    (tmp_path / "mine.csv").write_text("statement,label\nOne.,0\nTwo.,1\n")
    (statements,) = read_all([str(tmp_path / "mine.csv")])
    record = {"data": {"mine": statements.fingerprint}, "sets": {"mine": {"source": statements.source}}}
    metrics = metrics_table([0], layers=3, datasets=["mine"])
    run = write_run(tmp_path / "run", metrics)
    scored(run, "llama@step0", [-5, 0, 1 << 40])
    tables = page_tables(run, record, metrics, NONE, {})
    assert tables["statements"]["row"].tolist() == [0, 1]


def test_the_same_tables_give_the_same_text(tmp_path):
    metrics = both_protocols([0, 20, 100])
    run = write_run(tmp_path / "run", metrics)
    shuffled = metrics.sample(frac=1, random_state=0)
    texts = {page_data(page_tables(run, RECORD, metrics, NONE, {})) for _ in range(2)}
    assert len(texts) == 1
    assert len(page_data(page_tables(run, RECORD, shuffled, NONE, {}))) == len(texts.pop())


def test_stages_are_in_seconds_since_the_first_and_processes_have_numbers(tmp_path):
    metrics = metrics_table([0, 100])
    run = write_run(tmp_path / "run", metrics)
    for number in range(2):
        append(run.log_path, at(100 + 10 * number, 10, 1, 2, 1))
    stages = page_tables(run, RECORD, metrics, NONE, {})["stages"]
    assert stages["stage"].tolist() == ["fetch", "read", "extract", "statistics"] * 2
    assert stages["process"].unique().tolist() == [0]
    assert stages["start"].min() == 0
    assert (stages["end"] - stages["start"]).tolist() == [10, 1, 2, 1] * 2
