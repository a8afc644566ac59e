"""The tables at the end of a run."""

import numpy as np
import pandas as pd

from jtrace.report.summary import (
    COLUMNS,
    SOUND_COLUMNS,
    as_text,
    best_layers,
    comparison_table,
    comparison_text,
    in_two,
    steering_effects,
)
from tests.tables import both_protocols, metrics_table, sound_table, steered


def test_the_summary_keeps_to_the_layer_that_is_best_at_the_last_checkpoint():
    table = metrics_table([20, 3], datasets=["mine"])
    early = (table["step"] == 3) & (table["layer"] == 1) & (table["metric"] == "probe_accuracy")
    table.loc[early, "value"] = 0.95
    best = best_layers(table, "paper")
    assert list(best["best layer"]) == [2, 2]
    np.testing.assert_allclose(best["accuracy"], [0.803, 0.82])


def test_a_protocol_that_was_not_run_has_no_rows():
    best = best_layers(metrics_table([3]), "sound")
    assert (tuple(best.columns), len(best)) == (SOUND_COLUMNS, 0)


def test_a_checkpoint_whose_place_is_not_known_is_summed_up_too():
    table = pd.concat([metrics_table([3, 20], datasets=["mine"]), metrics_table([None], datasets=["mine"])])
    assert set(best_layers(table, "paper")["checkpoint"]) == {"llama", "llama@step3", "llama@step20"}


def test_the_summary_names_the_best_layer_of_each_set_and_checkpoint():
    best = best_layers(metrics_table([20, 3]), "paper")
    assert tuple(best.columns) == COLUMNS
    assert list(best["checkpoint"]) == ["llama@step3", "llama@step20"] * 2
    assert set(best["best layer"]) == {2}
    np.testing.assert_allclose(best["accuracy"], [0.803, 0.82] * 2)
    assert "llama@step3" in as_text(best)


def test_under_sound_the_summary_has_intervals_and_information_above_its_null():
    best = best_layers(sound_table([20, 3]), "sound")
    assert tuple(best.columns) == SOUND_COLUMNS
    assert set(best["best layer"]) == {2}
    np.testing.assert_allclose(best[["accuracy", "from", "to"]].iloc[1], [0.82, 0.79, 0.85])
    np.testing.assert_allclose(best[["I(X;T) − null", "p(X;T)", "I(Y;T) − null", "p(Y;T)"]].iloc[1],
                               [3.02, 0.005, 0.42, 0.005])  # fmt: skip


def test_both_protocols_are_compared_at_the_last_checkpoint_each_at_its_own_best_layer():
    table = both_protocols([0, 100], datasets=["stereoset", "mine"])
    paper = (table["protocol"] == "paper") & (table["metric"] == "probe_accuracy") & (table["dataset"] == "mine")
    table.loc[paper & (table["layer"] == 1), "value"] = 0.97
    found = comparison_table(table)
    assert found[["dataset", "checkpoint", "protocol", "layer", "accuracy"]].to_numpy().tolist() == [
        ["stereoset", "llama@step100", "paper", 2, 0.9],
        ["stereoset", "llama@step100", "sound", 2, 0.9],
        ["mine", "llama@step100", "paper", 1, 0.97],
        ["mine", "llama@step100", "sound", 2, 0.9],
    ]
    sound = found.iloc[1]
    assert sound["accuracy 95 %"] == "0.870 to 0.930"
    assert sound["I(X;T) − null 95 %"] == "2.700 to 3.500"
    assert sound["bound (nats) 95 %"] == "0.200 to 0.300"
    expected = {"ECE": 0.04, "text only": 0.6, "chance": 0.52, "random init": 0.55, "control task": 0.5, "I(X;T)": 5.1,
                "I(X;T) null": 2.0, "I(X;T) p": 0.005, "I(Y;T) null": 0.1, "bound (nats)": 0.25}  # fmt: skip
    assert {name: round(sound[name], 3) for name in expected} == expected
    assert found.iloc[0][["random init", "control task", "I(X;T) null"]].isna().all()


def test_the_comparison_is_two_tables_of_keys_and_columns():
    probes, information = in_two(comparison_table(both_protocols([0])))
    keys = ["dataset", "checkpoint", "protocol", "layer"]
    assert list(probes)[:7] == [*keys, "accuracy", "95 %", "AUROC"]
    assert list(information)[:9] == [*keys, "I(X;T)", "null", "above null", "95 %", "p"]


def test_on_a_terminal_the_comparison_names_each_checkpoint_once_and_fits():
    text = comparison_text(pd.concat([both_protocols([0, 100]), sound_table([None], model="org/chat")]))
    assert [line for line in text.splitlines() if line.startswith("at ")] == ["at llama@step100:", "at org/chat:"]
    assert max(map(len, text.splitlines())) <= 160
    assert "None" not in text
    assert "nan" not in text


def test_of_paper_alone_the_comparison_has_no_column_that_nothing_is_in():
    found = comparison_table(metrics_table([0]))
    assert not {"ECE", "control task", "I(X;T) null", "accuracy 95 %"} & set(found)


def test_without_metrics_the_comparison_is_empty():
    assert comparison_table(metrics_table([0]).iloc[:0]).empty
    assert comparison_text(metrics_table([0]).iloc[:0]) == ""


def test_what_steering_did_is_a_line_per_task_protocol_and_vector():
    table = pd.concat(
        [
            steered({-1: 0.6, 0: 0.5, 1: 0.8}),
            steered({1: 0.55}, source="ckpt_1:random", seed=3),
            steered({0: 20.0, 1: 30.0}, task="perplexity", metric="perplexity"),
            steered({0: 0.4, 1: 0.41}, task="toxigen", metric="toxicity", protocol="sound"),
            steered({1: 0.41}, task="toxigen", metric="chosen_toxicity", protocol="sound"),
        ]
    )
    found = steering_effects(table)
    assert found[["task", "protocol", "vector", "set", "metric", "layer", "strength"]].to_numpy().tolist() == [
        ["stereoset", "paper", "ckpt_1", "stereoset", "accuracy", 1, 1.0],
        ["toxigen", "sound", "ckpt_1", "stereoset", "toxicity", 1, 1.0],
    ]
    paper, sound = found.to_dict("records")
    assert (paper["unsteered"], paper["steered"], paper["beyond interval"]) == (0.5, 0.8, "yes")
    np.testing.assert_allclose([paper["gain"], paper["random's gain"], paper["perplexity ×"]], [0.3, 0.05, 1.5])
    # Less toxicity would be better.
    np.testing.assert_allclose(sound["gain"], -0.01)
    assert sound["beyond interval"] == "no"
    text = as_text(found)
    assert len(text.splitlines()) == 3
    assert "–" in text  # no random direction was tried under protocol sound


def test_columns_that_nothing_is_known_of_are_left_out():
    found = steering_effects(steered({0: 0.5, 1: 0.8}))
    assert "random's gain" not in found
    assert "perplexity ×" not in found


def test_without_steering_there_is_no_table():
    assert steering_effects(steered({0: 0.5})).empty
    assert steering_effects(steered({})).empty
