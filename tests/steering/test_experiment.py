"""Steering as bookkeeping: what is asked, what is kept, and which rows say what; the answers are made up here."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jtrace.errors import InputError
from jtrace.evaluation.outcomes import validation_part
from jtrace.evaluation.task import Choice, Outcome, Prompt, Task
from jtrace.inference.language_model import load_language_model
from jtrace.runs.steering_files import SCHEMA, SteeringTable
from jtrace.steering import asking, conditions, experiment
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.experiment import check_steering, steer
from jtrace.steering.target_vectors import with_controls
from jtrace.steering.vector import SteeringVector
from tests.tiny_chat import DEPTH, WIDTH, write_chat

VECTOR = SteeringVector(
    np.random.default_rng(0).normal(size=(DEPTH, WIDTH)).astype(np.float32), (0, 1, 2), "base_step7", "stereoset", True
)
THREE = (-1.0, 0.0, 1.0)
ZERO = 4  # the token that stands for an answer of 0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(write_chat(tmp_path_factory.mktemp("models") / "chat"), "chat", "float32")


@pytest.fixture
def asked(monkeypatch):
    """The model's answer to an item is `answer(layers, strength, place)`, layers being those that are steered."""
    log = SimpleNamespace(calls=[], made=[], answer=lambda layers, strength, place: strength, stop_after=None)

    def settings(edit, conditions):
        pushes = np.zeros((DEPTH, 1)) if edit is None else np.asarray(edit.push)
        for condition in conditions:
            layers = tuple(np.flatnonzero(pushes[:, condition]).tolist())
            yield layers, float(pushes[:, condition].sum() / max(1, len(layers)))

    def ask(model, task, edit, conditions, how, *, kept=None, keep=None, progress=None):
        log.calls.append(task.name)
        found = [{} for _ in conditions]
        for place, item in enumerate(task.items):
            if place in (kept or {}):
                completions = kept[place]
            elif isinstance(item, Prompt):
                if len(log.made) == log.stop_after:
                    raise KeyboardInterrupt
                completions = [
                    np.array([ZERO + log.answer(*setting, place)], np.int32) for setting in settings(edit, conditions)
                ]
                log.made.append(item.index)
                keep(place, completions)
            else:
                completions = [np.array([log.answer(*setting, place)]) for setting in settings(edit, conditions)]
            for answers, completion in zip(found, completions, strict=True):
                answers[place] = float(completion[0]) - (ZERO if isinstance(item, Prompt) else 0)
        return [[answers[place] for place in range(len(task.items))] for answers in found]

    monkeypatch.setattr(asking, "ask", ask)
    return log


def score(answers):
    return {"accuracy": Outcome.of(answers), "squared": Outcome.of(np.square(answers))}


def choices(groups="aabbccddeeff", protocols=("paper",), measure=score, main="accuracy"):
    items = tuple(Choice(10 + i, "ba", ("0", "1"), group) for i, group in enumerate(groups))
    return Task("stereoset", protocols, items, measure, main=main)


def prompts(count=6, measure=score):
    items = tuple(Prompt(10 + i, f"ba be {i % 2}") for i in range(count))
    return Task("open", ("paper",), items, measure, main="accuracy", max_new_tokens=3)


def run(folder, model, tasks, strengths=THREE, vectors=(VECTOR,), layers=((1,),), **config):
    """In RUN/steering, which is the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return steer(folder, model, vectors, tasks, SteerConfig(strengths, layers, **config), "weights", quiet=True)


def value(rows, metric, strength, layer=1, protocol="paper", column="value"):
    at = (rows["metric"] == metric) & (rows["strength"] == strength) & (rows["layer"] == layer)
    (found,) = rows[at & (rows["protocol"] == protocol)][column]
    return found


def paths(folder):
    """Tables and completions."""
    return sorted([*folder.iterdir(), *(folder.parent / "completions").glob("*")])


def files(folder):
    return {path.name: path.read_bytes() for path in paths(folder)}


def said_in(folder):
    (path,) = (folder.parent / "completions").iterdir()
    return path


def lines(folder):
    path = said_in(folder)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# What is refused before anything is asked


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SteerConfig(THREE, ((3,),)), "--layers asks for 3; chat has layers 0 to 2"),
        (SteerConfig(THREE, ((1, 9),)), "--layers asks for 9; chat has layers 0 to 2"),
        (SteerConfig(THREE, ((0,),)), "the vectors of base_step7 have no layer 0; they have 1-2"),
        (SteerConfig((0.0, float("nan")), ((1,),)), "a strength of nan is not a number"),
    ],
)
def test_settings_that_cannot_be_are_refused(model, config, message):
    with pytest.raises(InputError, match=message):
        check_steering(model, [replace(VECTOR, layers=(1, 2))], [choices()], config)


@pytest.mark.parametrize("item", [Prompt(17, "ba " * 510), Choice(17, "ba " * 512, ("0",))])
def test_an_item_longer_than_the_context_is_refused_by_task_and_row(model, item):
    task = replace(prompts(), items=(item,))
    with pytest.raises(InputError, match=r"open, row 17: 51[023] tokens.* longer than the context of chat, 512"):
        check_steering(model, [VECTOR], [task], SteerConfig(THREE))


# Tables


def test_a_table_holds_every_metric_at_every_layer_and_strength(tmp_path, model, asked):
    rows = run(tmp_path / "steering", model, [choices()], layers=None)
    assert list(rows.columns) == SCHEMA.names
    assert sorted(zip(rows["layer"], rows["strength"], rows["metric"], strict=True)) == sorted(
        (layer, strength, metric)
        for layer in range(DEPTH)
        for strength in THREE
        for metric in ("accuracy", "squared", *(["difference_accuracy"] if strength else []))
    )
    for name, only in {"target": "chat", "vector_from": "base_step7", "vector_set": "stereoset", "positions": "last",
                       "task": "stereoset", "protocol": "paper", "seed": 0, "n": 12}.items():  # fmt: skip
        assert rows[name].unique().tolist() == [only]
    assert all(rows["value"] == np.where(rows["metric"] == "squared", rows["strength"] ** 2, rows["strength"]))
    (path,) = (tmp_path / "steering").iterdir()
    key = ["layer", "strength", "metric"]
    written = pd.read_parquet(path)
    pd.testing.assert_frame_equal(
        written.sort_values(key, ignore_index=True), rows.sort_values(key, ignore_index=True), check_dtype=False
    )


def test_without_steering_all_layers_and_vectors_have_the_same_rows(tmp_path, model, asked):
    noise = np.random.default_rng(0)
    asked.answer = lambda layers, strength, place: noise.random()
    rows = run(tmp_path / "steering", model, [choices()], layers=None, vectors=with_controls([VECTOR], [1]))
    plain = rows[rows["strength"] == 0]
    assert len(plain) == 2 * DEPTH * 2
    for _, of_metric in plain.groupby("metric"):
        assert of_metric[["value", "ci_low", "ci_high", "n"]].drop_duplicates().shape[0] == 1
    assert rows[rows["strength"] != 0]["value"].nunique() == (rows["strength"] != 0).sum()


def test_a_control_s_rows_carry_its_seed(tmp_path, model, asked):
    rows = run(tmp_path / "steering", model, [choices()], vectors=with_controls([VECTOR], [7]))
    assert rows.groupby("vector_from")["seed"].unique().map(list).to_dict() == {
        "base_step7": [0],
        "base_step7:random": [7],
    }


def test_layers_that_are_steered_at_once_have_a_table_of_their_own(tmp_path, model, asked):
    asked.answer = lambda layers, strength, place: 10 * len(layers) + strength
    rows = run(tmp_path / "steering", model, [choices()], layers=((1,), (1, 2)))
    assert len(list((tmp_path / "steering").iterdir())) == 2
    both = rows[rows["vector_set"] == "stereoset@1+2"]
    alone = rows[rows["vector_set"] == "stereoset"]
    assert (value(alone, "accuracy", 1), value(both, "accuracy", 1)) == (11, 21)
    assert value(alone, "accuracy", 0) == value(both, "accuracy", 0) == 0
    assert set(both["layer"]) == {1}


# Protocol sound


def test_validation_rows_and_the_others_share_no_group(tmp_path, model, asked):
    task = choices(protocols=("sound",))
    asked.answer = lambda layers, strength, place: place
    rows = run(tmp_path / "steering", model, [task], protocols=("sound",))
    chosen_on = validation_part(task.items, 0)
    groups = np.array([item.group for item in task.items])
    assert 0 < chosen_on.sum() < len(chosen_on)
    assert not set(groups[chosen_on]) & set(groups[~chosen_on])
    places = np.arange(12)
    for metric, part in (("accuracy", ~chosen_on), ("validation_accuracy", chosen_on)):
        assert value(rows, metric, 1, protocol="sound") == pytest.approx(places[part].mean())
        assert value(rows, metric, 1, protocol="sound", column="n") == part.sum()


def by_part(task, on_validation, on_others):
    """Answers that are known by setting, for either part."""
    chosen_on = validation_part(task.items, 0)
    return lambda layers, strength, place: (on_validation if chosen_on[place] else on_others)[*layers, strength]


def test_the_chosen_row_is_of_the_best_setting_on_validation_rows_and_tells_the_value_on_the_others(
    tmp_path, model, asked
):
    task = choices(protocols=("sound",))
    others = {(0.0,): 0.5, (1, -1.0): 0.9, (1, 1.0): 0.4, (2, -1.0): 0.1, (2, 1.0): 0.2}
    asked.answer = by_part(task, {(0.0,): 0.5, (1, -1.0): 0.1, (1, 1.0): 0.6, (2, -1.0): 0.7, (2, 1.0): 0.1}, others)
    rows = run(tmp_path / "steering", model, [task], layers=((1,), (2,)), protocols=("sound",))
    (chosen,) = rows[rows["metric"] == "chosen_accuracy"].to_dict("records")
    assert (chosen["layer"], chosen["strength"], chosen["value"]) == (2, -1.0, pytest.approx(0.1))
    assert chosen["n"] == value(rows, "accuracy", -1, layer=2, protocol="sound", column="n")


@pytest.mark.parametrize(
    ("validated", "setting"),
    [
        ({(1, 2.0): 0.8, (1, -1.0): 0.8, (2, 1.0): 0.8}, (1, -1.0)),
        ({(1, 2.0): 0.8, (2, -1.0): 0.8}, (2, -1.0)),
        ({(1, 1.0): 0.5, (2, -2.0): 0.5}, (1, 0.0)),  # as good as without: none
    ],
)
def test_of_equals_the_weakest_is_chosen(tmp_path, model, asked, validated, setting):
    task = choices(protocols=("sound",))
    known = {(layer, strength): 0.0 for layer in (1, 2) for strength in (-2.0, -1.0, 1.0, 2.0)} | {(0.0,): 0.5}
    asked.answer = by_part(task, known | validated, known)
    strengths = (2.0, 1.0, 0.0, -1.0, -2.0)
    rows = run(tmp_path / "steering", model, [task], strengths, layers=((1,), (2,)), protocols=("sound",))
    (chosen,) = rows[rows["metric"] == "chosen_accuracy"].to_dict("records")
    assert (chosen["layer"], chosen["strength"]) == setting


def test_where_less_is_better_the_lowest_is_chosen(tmp_path, model, asked):
    task = choices(protocols=("sound",), measure=lambda answers: {"toxicity": Outcome.of(answers)}, main="toxicity")
    rows = run(tmp_path / "steering", model, [task], protocols=("sound",))
    assert rows[rows["metric"] == "chosen_toxicity"]["strength"].tolist() == [-1.0]


def test_a_later_better_strength_takes_the_choice_over(tmp_path, model, asked):
    task = choices(protocols=("sound",))
    run(tmp_path / "steering", model, [task], protocols=("sound",))
    rows = run(tmp_path / "steering", model, [task], (*THREE, 2.0), protocols=("sound",))
    assert rows[rows["metric"] == "chosen_accuracy"]["strength"].tolist() == [2.0]


def test_gains_are_paired_so_that_a_like_change_of_every_item_is_certain(tmp_path, model, asked):
    task = choices(protocols=("paper", "sound"))
    asked.answer = lambda layers, strength, place: place + strength / 4
    rows = run(tmp_path / "steering", model, [task], protocols=("paper", "sound"))
    for protocol in ("paper", "sound"):
        for strength in (-1.0, 1.0):
            gain, low, high = (
                value(rows, "difference_accuracy", strength, protocol=protocol, column=column)
                for column in ("value", "ci_low", "ci_high")
            )
            difference = value(rows, "accuracy", strength, protocol=protocol) - value(
                rows, "accuracy", 0.0, protocol=protocol
            )
            assert [gain, low, high, difference] == pytest.approx([strength / 4] * 4)
        # The metric itself is as uncertain as its items differ.
        assert value(rows, "accuracy", 1, protocol=protocol, column="ci_low") < value(
            rows, "accuracy", 1, protocol=protocol
        )


def test_a_task_is_told_under_the_protocols_that_it_knows(tmp_path, model, asked):
    tasks = [choices(), choices(protocols=("sound",), groups="aabbccddeef")]
    rows = run(tmp_path / "steering", model, tasks, protocols=("paper", "sound"))
    assert rows.groupby("protocol")["n"].max().to_dict()["paper"] == 12
    assert len(list((tmp_path / "steering").iterdir())) == 2


# What is there already


def test_a_rerun_asks_nothing_and_leaves_every_byte(tmp_path, model, asked):
    tasks, folder = [choices(), prompts()], tmp_path / "steering"
    first = run(folder, model, tasks)
    before, times = files(folder), [path.stat().st_mtime_ns for path in paths(folder)]
    calls = len(asked.calls)
    again = run(folder, model, tasks)
    assert len(asked.calls) == calls
    assert files(folder) == before
    assert [path.stat().st_mtime_ns for path in paths(folder)] == times
    key = ["task", "layer", "strength", "metric"]
    pd.testing.assert_frame_equal(
        again.sort_values(key, ignore_index=True), first.sort_values(key, ignore_index=True), check_dtype=False
    )


def test_more_strengths_and_layers_are_added_to_the_same_files(tmp_path, model, asked):
    folder = tmp_path / "steering"
    run(folder, model, [prompts()])
    names, first = set(files(folder)), lines(folder)
    rows = run(folder, model, [prompts()], (*THREE, 2.0), layers=((1,), (2,)))
    assert set(files(folder)) == names
    assert lines(folder)[: len(first)] == first
    found = [(line["layer"], line["strength"], line["index"]) for line in lines(folder)]
    assert sorted(found) == sorted(
        (layer, strength, 10 + i) for layer in (1, 2) for strength in (*THREE, 2.0) for i in range(6)
    )
    assert {(row.layer, row.strength) for row in rows.itertuples()} == {
        (layer, strength) for layer in (1, 2) for strength in (*THREE, 2.0)
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"positions": "all"},
        {"operator": "clamp"},
        {"temperature": 0.5},
        {"seed": 1},
        {"vectors": (replace(VECTOR, values=2 * VECTOR.values),)},
    ],
)
def test_other_settings_have_files_of_their_own(tmp_path, model, asked, changed):
    folder = tmp_path / "steering"
    run(folder, model, [choices()])
    before = files(folder)
    run(folder, model, [choices()], **changed)
    assert len(files(folder)) == 2
    assert files(folder).items() > before.items()


@pytest.mark.parametrize("at_once", [1, 2])
def test_conditions_that_are_computed_in_parts_give_the_same(tmp_path, model, asked, monkeypatch, at_once):
    whole = run(tmp_path / "whole/steering", model, [prompts()], layers=None)
    monkeypatch.setattr(conditions, "MOST_CONDITIONS", at_once)
    parts = run(tmp_path / "parts/steering", model, [prompts()], layers=None)
    key = ["layer", "strength", "metric"]
    pd.testing.assert_frame_equal(
        parts.sort_values(key, ignore_index=True), whole.sort_values(key, ignore_index=True), check_dtype=False
    )
    found = [(line["layer"], line["strength"], line["index"]) for line in lines(tmp_path / "parts/steering")]
    assert len(found) == len(set(found)) == DEPTH * 3 * 6


# Interruptions


def test_every_completion_is_a_line(tmp_path, model, asked):
    run(tmp_path / "steering", model, [prompts()], layers=((1,), (1, 2)), strengths=(0.0, 1.0))
    completions = sorted((tmp_path / "completions").iterdir())
    found = [json.loads(line) for path in completions for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(found) == 2 * 2 * 6
    assert {line["vector_set"] for line in found} == {"stereoset", "stereoset@1+2"}
    line = next(line for line in found if line["strength"] == 1 and line["index"] == 11)
    assert line == line | {
        "target": "chat",
        "vector_from": "base_step7",
        "task": "open",
        "layer": 1,
        "positions": "last",
        "operator": "add",
        "temperature": 0.0,
        "seed": 0,
        "prompt": "ba be 1",
        "completion": "No",
        "tokens": [5],
        "max_new_tokens": 3,
    }


# The unsteered model, which differences are taken from, is asked first, and kept where no strength is 0 all the same.
@pytest.mark.parametrize("strengths", [THREE, (-1.0, 1.0)])
@pytest.mark.parametrize("stop_after", [2, 6 + 2])
def test_an_interrupted_run_goes_on_with_the_prompts_that_are_missing(tmp_path, model, asked, strengths, stop_after):
    asked.answer = lambda layers, strength, place: place + strength
    whole, folder = run(tmp_path / "whole/steering", model, [prompts()], strengths), tmp_path / "steering"
    made = list(asked.made)
    assert made == 2 * list(range(10, 16))  # the unsteered model, then both others at once
    asked.made.clear()
    asked.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        run(folder, model, [prompts()], strengths)
    assert len(lines(folder)) == min(stop_after, 6) + 2 * max(0, stop_after - 6)

    asked.made.clear()
    asked.stop_after = None
    rows = run(folder, model, [prompts()], strengths)
    assert asked.made == made[stop_after:]
    pd.testing.assert_frame_equal(rows, whole)
    assert said_in(folder).read_bytes() == said_in(tmp_path / "whole/steering").read_bytes()


def test_completions_of_the_unsteered_model_are_made_once_and_stand_in_every_table(tmp_path, model, asked):
    asked.answer = lambda layers, strength, place: place + strength
    run(tmp_path / "steering", model, [prompts()], vectors=with_controls([VECTOR], [1]))
    assert asked.calls == 3 * ["open"]  # unsteered, then each vector's
    tables = sorted((tmp_path / "completions").iterdir())
    assert len(tables) == 2
    for path in tables:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        unsteered = {line["index"]: line["tokens"] for line in found if line["strength"] == 0}
        assert unsteered == {10 + place: [ZERO + place] for place in range(6)}
        assert len(found) == 3 * 6


def test_more_strengths_go_on_where_they_were_interrupted(tmp_path, model, asked):
    folder = tmp_path / "steering"
    run(folder, model, [prompts()])
    asked.made.clear()
    asked.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        run(folder, model, [prompts()], (*THREE, 2.0))
    asked.made.clear()
    asked.stop_after = None
    run(folder, model, [prompts()], (*THREE, 2.0))
    assert asked.made == [14, 15]


def test_a_line_that_was_cut_off_is_made_again_and_so_is_no_other(tmp_path, model, asked):
    folder, whole = tmp_path / "steering", tmp_path / "whole/steering"
    for place in (folder, whole):
        run(place, model, [prompts()], layers=None)
    (table,), said = folder.iterdir(), said_in(folder)
    table.unlink()
    # The last prompt's: of its 9 settings 2 are lost, one of them in the middle of a line.
    content = said.read_bytes()
    said.write_bytes(content[: content[:-1].rfind(b"\n") - 30])
    asked.made.clear()
    run(folder, model, [prompts()], layers=None)
    assert asked.made == [15]
    assert said.read_bytes() == said_in(whole).read_bytes()


def test_lines_of_unsteered_layers_that_were_cut_off_are_written_from_those_that_are_there(tmp_path, model, asked):
    folder = tmp_path / "steering"
    run(folder, model, [prompts()], strengths=(0.0,), layers=None)
    (table,), said = folder.iterdir(), said_in(folder)
    table.unlink()
    content = said.read_bytes()
    said.write_bytes(content[:-30])
    asked.made.clear()
    run(folder, model, [prompts()], strengths=(0.0,), layers=None)
    assert asked.made == []
    assert said.read_bytes() == content


def test_completions_outlive_a_judge_that_fails(tmp_path, model, asked):
    def fails(answers):
        raise InputError("the judge is out of reach")

    folder = tmp_path / "steering"
    with pytest.raises(InputError, match="out of reach"):
        run(folder, model, [prompts(measure=fails)])
    assert not list(folder.glob("*.parquet"))
    assert asked.made == [line["index"] for line in lines(folder)] == list(range(10, 16))
    asked.made.clear()
    rows = run(folder, model, [prompts()])
    assert asked.made == list(range(10, 16))  # the unsteered model's are kept
    assert value(rows, "accuracy", 1.0) == 1.0


# What is said


def test_progress_tells_each_table_s_best_setting(tmp_path, model, asked, capsys):
    folder = tmp_path / "steering"
    folder.mkdir()
    steer(folder, model, [VECTOR], [choices(), prompts()], SteerConfig(THREE, ((1,),)), "weights")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "[1/2] stereoset (paper), stereoset of base_step7: accuracy 0.000 unsteered, best 1.000 (layer 1, strength 1), "
    )
    assert second.startswith("[2/2] open (paper), stereoset of base_step7: ")


def test_progress_tells_ties_and_answers_that_cannot_be_judged(tmp_path, model, asked, capsys):
    folder = tmp_path / "steering"
    folder.mkdir()
    asked.answer = lambda layers, strength, place: 0.5
    unjudged = replace(prompts(measure=lambda answers: {"accuracy": Outcome.of([np.nan] * 6)}), name="unjudged")
    steer(folder, model, [VECTOR], [choices(), unjudged], SteerConfig(THREE, ((1,), (2,))), "weights")
    first, second = capsys.readouterr().out.splitlines()
    assert "accuracy 0.500 unsteered, best 0.500 (layer 1, strength -1, tied with 3 more), " in first
    assert "no accuracy: of 6 answers none can be judged, " in second


# Several commands on one run


def test_rows_that_another_command_adds_meanwhile_stay(tmp_path, model, asked, monkeypatch):
    """The other one begins and ends between this one's reading of its table and its writing."""
    folder, ask_batch = tmp_path / "steering", experiment.ask_batch

    def ask_beside_another(*arguments):
        monkeypatch.setattr(experiment, "ask_batch", ask_batch)
        measured = ask_batch(*arguments)
        run(folder, model, [choices()], strengths=(0.0, 2.0))
        return measured

    monkeypatch.setattr(experiment, "ask_batch", ask_beside_another)
    run(folder, model, [choices()], strengths=(0.0, 1.0))
    (path,) = folder.glob("*.parquet")
    assert set(pd.read_parquet(path)["strength"]) == {0.0, 1.0, 2.0}


@pytest.mark.slow
def test_completions_of_commands_that_write_at_once_stay_whole(tmp_path):
    table = SteeringTable(tmp_path / "run/steering", ("chat", "base", "stereoset", "open"), {})
    table.folder.mkdir(parents=True)
    commands, each = 4, 10
    line = {"layer": 1, "strength": 1.0, "tokens": [1] * 5000}

    def write(command):
        for at in range(each):
            table.append([line | {"index": command * each + at}])
            table.read_completions()

    with ThreadPoolExecutor(commands) as pool:
        list(pool.map(write, range(commands)))
    assert sorted(index for _, index in table.read_completions()) == list(range(commands * each))
