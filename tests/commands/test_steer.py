"""Whole steering commands on a tiny model: the files of the contract, what a rerun does, and what is refused."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from jtrace.checkpoints.refs import parse_specs
from jtrace.commands import steer as commands_steer
from jtrace.commands.steer import SteerCommand, steer_into
from jtrace.commands.trace import trace_into
from jtrace.data.loading import read_all, read_statements
from jtrace.errors import InputError
from jtrace.evaluation import answers
from jtrace.evaluation.registry import Judges, TaskSources
from jtrace.probing.vector_export import write_vector
from jtrace.probing.vector_files import read_vectors
from jtrace.report.build import write_report
from jtrace.runs.run_directory import RunDirectory
from jtrace.steering.chosen_vector import chosen_vector
from jtrace.steering.conditions import SteerConfig
from jtrace.steering.target_vectors import VectorChoice
from jtrace.sweep.config import SweepConfig
from tests.conftest import ROOT
from tests.in_process import refusal
from tests.tiny_chat import ROWS, write_chat, write_set, write_vectors

COLUMNS = ["target", "vector_from", "vector_set", "layer", "strength", "positions", "task", "metric", "value",
           "ci_low", "ci_high", "n", "protocol", "seed"]  # fmt: skip
EVALUATED = range(ROWS // 2, ROWS)
KEY = ["vector_from", "vector_set", "protocol", "task", "metric", "layer", "strength"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A chat model, a statement set and vectors of it."""
    folder = tmp_path_factory.mktemp("place")
    write_chat(folder / "chat")
    write_set(folder / "stereoset.csv")
    write_vectors(folder / "vectors/base_step7.safetensors")
    return folder


def reference(spec):
    (found,) = parse_specs([str(spec)], lambda repo: [])
    return found


def steer(place, out, strengths=(-1.0, 0.0, 1.0), layers=((1,),), names=("stereoset",), sets=("stereoset",), **others):
    choice = {name: others.pop(name) for name in ("towards_good", "any_family", "scale") if name in others}
    files = others.pop("files", (str(place / "vectors/base_step7.safetensors"),))
    target = reference(others.pop("target", place / "chat"))
    data = {"data_dir": place} | {
        name: others.pop(name) for name in ("limit", "statements", "data_dir") if name in others
    }
    judges, tokenizer = others.pop("judges", Judges()), others.pop("tokenizer", None)
    command = SteerCommand(
        out,
        target,
        VectorChoice(files, sets, **choice),
        names,
        TaskSources(**data),
        judges,
        SteerConfig(strengths, layers, **others),
        dtype="float32",
        tokenizer=tokenizer,
    )
    return steer_into(command)


def rows(out):
    return RunDirectory(out).read_steering().sort_values(KEY, ignore_index=True)


def lines(out):
    paths = sorted((out / "completions").glob("*.jsonl"))
    found = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(found, key=lambda line: [line[key] for key in ("vector_from", "layer", "strength", "index")])


def settings(found):
    return [(line["layer"], line["strength"], line["index"]) for line in found]


def files(out):
    paths = sorted([*(out / "steering").iterdir(), *(out / "completions").glob("*")])
    return {path.name: path.read_bytes() for path in paths}


def values(table, metric, strength, **where):
    for column, wanted in {"metric": metric, "strength": strength, **where}.items():
        table = table[table[column] == wanted]
    return table["value"].tolist()


# The command


def command(*flags, cwd=ROOT):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, str(ROOT / "launch/steer.py"), *flags]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.mark.slow
@pytest.mark.draws
def test_the_command_leaves_tables_completions_and_figures(place, tmp_path):
    out = tmp_path / "run"
    flags = (
        f"--target={place}/chat", f"--vectors={place}/vectors/*.safetensors", "--vector_set=stereoset",
        "--tasks=stereoset,perplexity", "--layers=1", "--strengths=-1,0,1", f"--out={out}",
    )  # fmt: skip
    done = command(*flags, f"--data_dir={place}")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(out / "steering")
    assert table.columns.tolist() == COLUMNS
    assert set(table["task"]) == {"stereoset", "perplexity"}
    assert {(row.task, row.metric, row.n) for row in table.itertuples()} >= {
        ("stereoset", "accuracy", 12), ("stereoset", "unparsable", 12), ("perplexity", "perplexity", 11 * 5),
    }  # fmt: skip
    assert {(name, *table[name].unique()) for name in ("target", "vector_from", "vector_set", "positions", "seed")} == {
        ("target", "chat"), ("vector_from", "base_step7"), ("vector_set", "stereoset"), ("positions", "last"),
        ("seed", 0),
    }  # fmt: skip
    assert settings(lines(out)) == [(1, strength, index) for strength in (-1.0, 0.0, 1.0) for index in EVALUATED]
    asked = read_statements("stereoset", place).texts
    for line in lines(out):
        assert asked[line["index"]] in line["prompt"]
        assert (line["task"], line["max_new_tokens"]) == ("stereoset", 2)
    assert len({line["completion"] for line in lines(out)}) > 1
    for expected in ("unsteered", "stereoset    paper base_step7 stereoset accuracy", "figures/steering_comparison",
                     f"report       jtrace report --run={out}"):  # fmt: skip
        assert expected in done.stdout
    record = RunDirectory(out).record()
    assert "launch/steer.py" in record["steering_commands"][0]["command"]


@pytest.mark.slow
def test_statements_may_be_given_themselves(place, tmp_path):
    steer(place, tmp_path / "run")
    before = files(tmp_path / "run")
    sets = read_all([str(place / "stereoset.csv")])
    steer(place, tmp_path / "run", statements=sets, data_dir=None, sets=())
    assert files(tmp_path / "run") == before


@pytest.mark.slow
def test_a_target_of_the_same_name_and_first_block_is_not_given_another_s_numbers(place, tmp_path):
    for name in ("A", "B"):
        write_chat(tmp_path / name / "base")
    weights = load_file(tmp_path / "B/base/model.safetensors")
    upper = {name for name in weights if not name.startswith(("model.embed", "model.layers.0"))}
    random = np.random.default_rng(0)
    changed = {
        name: value * random.uniform(0.5, 1.5, value.shape).astype(np.float32) if name in upper else value
        for name, value in weights.items()
    }
    save_file(changed, tmp_path / "B/base/model.safetensors")
    runs = {"both": ("A", "B"), "alone": ("B",)}
    for out, targets in runs.items():
        for name in targets:
            steer(place, tmp_path / out, target=tmp_path / name / "base", names=("stereoset", "perplexity"))
    pd.testing.assert_frame_equal(rows(tmp_path / "both"), rows(tmp_path / "alone"))


@pytest.mark.slow
def test_a_copy_of_the_target_has_the_answers_that_are_there(place, tmp_path):
    steer(place, tmp_path / "run")
    before = files(tmp_path / "run")
    shutil.copytree(place / "chat", tmp_path / "moved/chat", copy_function=shutil.copyfile)
    steer(place, tmp_path / "run", target=tmp_path / "moved/chat")
    assert files(tmp_path / "run") == before


def test_the_command_refuses_in_one_line_and_writes_nothing(place, tmp_path):
    for step in (1, 2):
        write_chat(tmp_path / f"base/step{step}")
    many = f"--target={tmp_path}/base/step*"
    flags = (many, "--tasks=stereoset", f"--statements={place}/stereoset.csv", f"--out={tmp_path}/run")
    assert refusal("steer", *flags) == f"error: {many} names 2 checkpoints; name one"
    assert not (tmp_path / "run").exists()


# What is steered


@pytest.fixture(scope="module")
def both(place, tmp_path_factory):
    """A run of both protocols and two layers beside a random direction."""
    out = tmp_path_factory.mktemp("both") / "run"
    names, layers = ("stereoset", "perplexity"), ((0,), (1,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands_steer, "draw_steered", lambda run, metrics: [])
        assert steer(place, out, names=names, layers=layers, protocols=("paper", "sound"), random=(3,)) == 0
    return out


@pytest.mark.slow
def test_both_protocols_stand_beside_each_other(both):
    table = rows(both)
    assert set(table["protocol"]) == {"paper", "sound"}
    paper, sound = (table[table["protocol"] == protocol] for protocol in ("paper", "sound"))
    assert {"accuracy", "unparsable", "difference_accuracy", "perplexity", "difference_perplexity"} == set(
        paper["metric"]
    )
    assert {"accuracy", "accuracy_published_prompt", "margin", "difference_accuracy", "perplexity"} <= set(
        sound["metric"]
    )
    assert {"validation_accuracy", "chosen_accuracy", "validation_perplexity", "chosen_perplexity"} <= set(
        sound["metric"]
    )
    # Row 12 is related to a row that the vector is made of, and a third or so is for validation.
    of_set = sound[(sound["task"] == "stereoset") & (sound["strength"] == 1)].drop_duplicates("metric")
    size = of_set.set_index("metric")["n"]
    assert size["accuracy"] + size["validation_accuracy"] == 11
    assert {line["max_new_tokens"] for line in lines(both)} == {2}


def test_the_chosen_setting_is_the_best_on_validation_rows(both):
    table = rows(both)
    for (_, task), sound in table[table["protocol"] == "sound"].groupby(["vector_from", "task"]):
        metric, sign = ("perplexity", -1) if task == "perplexity" else ("accuracy", 1)
        (chosen,) = sound[sound["metric"] == f"chosen_{metric}"].to_dict("records")
        validated = sound[sound["metric"] == f"validation_{metric}"].set_index(["layer", "strength"])["value"] * sign
        assert validated[chosen["layer"], chosen["strength"]] == validated.max()
        best = validated.index[validated == validated.max()]
        assert all(abs(chosen["strength"]) <= abs(strength) for _, strength in best)
        assert [chosen["value"]] == values(sound, metric, chosen["strength"], layer=chosen["layer"])


def test_the_random_direction_has_its_name_and_seed(both):
    table = rows(both)
    assert table.groupby("vector_from")["seed"].unique().map(list).to_dict() == {
        "base_step7": [0],
        "base_step7:random": [3],
    }
    own, random = (table[table["vector_from"] == name] for name in ("base_step7", "base_step7:random"))
    names = ["protocol", "task", "metric", "strength", "n"]
    measured = [rows[~rows["metric"].str.startswith("chosen_")][names] for rows in (own, random)]
    assert measured[0].to_numpy().tolist() == measured[1].to_numpy().tolist()
    assert values(own, "margin", 1.0) != values(random, "margin", 1.0)


def test_without_steering_nothing_depends_on_vector_or_layer(both):
    table = rows(both)
    plain = table[(table["strength"] == 0) & ~table["metric"].str.startswith("chosen_")]
    for _, same in plain.groupby(["protocol", "metric"]):
        assert len(same) == 4
        assert same[["value", "ci_low", "ci_high", "n"]].drop_duplicates().shape[0] == 1
    said = [line["tokens"] for line in lines(both) if line["strength"] == 0]
    assert len(said) == 4 * len(EVALUATED)
    assert said[: len(EVALUATED)] * 4 == said


@pytest.mark.slow
def test_a_limit_takes_the_first_rows_to_evaluate(place, tmp_path):
    steer(place, tmp_path / "run", limit=5)
    assert set(rows(tmp_path / "run")["n"]) == {5}
    assert {line["index"] for line in lines(tmp_path / "run")} == set(EVALUATED[:5])


@pytest.mark.slow
def test_sums_of_sets_and_layers_at_once(place, both, tmp_path):
    sets = ("stereoset+-0.5*toxigen", "stereoset+0*toxigen")
    steer(place, tmp_path / "run", sets=sets, layers=((1,), (1, 2)), protocols=("sound",))
    table = rows(tmp_path / "run")
    assert set(table["vector_set"]) == {name + joint for name in sets for joint in ("", "@1+2")}
    plain = rows(both)
    plain = plain[plain["vector_from"] == "base_step7"]
    by_set = {name: values(table, "margin", 1.0, vector_set=name) for name in set(table["vector_set"])}
    assert by_set[sets[1]] == pytest.approx(values(plain, "margin", 1.0, layer=1), rel=1e-4)
    assert len({round(value, 3) for (value,) in by_set.values()}) == 4


@pytest.mark.slow
def test_towards_good_turns_vectors_whose_label_1_is_bad(place, tmp_path):
    steer(place, tmp_path / "as_is", sets=("toxigen",), protocols=("sound",))
    steer(place, tmp_path / "good", sets=("toxigen", "stereoset"), protocols=("sound",), towards_good=True)
    as_is, good = rows(tmp_path / "as_is"), rows(tmp_path / "good")
    assert set(good["vector_set"]) == {"-1*toxigen", "stereoset"}
    turned = good[good["vector_set"] == "-1*toxigen"]
    for strength in (-1.0, 1.0):
        assert values(turned, "margin", strength) == pytest.approx(values(as_is, "margin", -strength), rel=1e-4)
    assert values(turned, "margin", 1.0) != pytest.approx(values(turned, "margin", -1.0), rel=1e-2)


@pytest.mark.slow
def test_the_model_as_it_is_needs_no_vector_and_is_one_row_whatever_the_layers(place, tmp_path, capsys):
    steer(place, tmp_path / "run", strengths=(0.0,), layers=None, files=(), sets=(), random=(0,))
    table = rows(tmp_path / "run")
    assert table["metric"].tolist() == ["accuracy", "unparsable"]
    assert "[1/1] stereoset (paper), as it is: accuracy 0." in capsys.readouterr().out
    assert (set(table["vector_from"]), set(table["vector_set"]), set(table["strength"])) == ({""}, {""}, {0.0})
    with pytest.raises(InputError, match="--vectors names nothing"):
        steer(place, tmp_path / "other", files=(), sets=())


# Runs


def test_a_rerun_computes_nothing_and_more_strengths_go_into_the_same_files(place, tmp_path):
    out = tmp_path / "run"
    steer(place, out)
    before, times = files(out), [path.stat().st_mtime_ns for path in sorted((out / "steering").iterdir())]
    steer(place, out)
    assert files(out) == before
    assert [path.stat().st_mtime_ns for path in sorted((out / "steering").iterdir())] == times
    steer(place, out, strengths=(-1.0, 0.0, 1.0, 2.0))
    assert files(out).keys() == before.keys()
    assert settings(lines(out)) == [(1, strength, i) for strength in (-1.0, 0.0, 1.0, 2.0) for i in EVALUATED]
    assert len(RunDirectory(out).record()["steering_commands"]) == 3


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_completions_and_ends_as_an_uninterrupted_one(place, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "run"
    steer(place, whole)
    original, asked = answers.generate, []

    def killed_after(count):
        """In the second call, which is of the steered model; the first is of the unsteered one."""

        def generate(params, config, prompts, *others, **named):
            asked.append(len(prompts))
            for done, made in enumerate(original(params, config, prompts, *others, **named)):
                if done == count and len(asked) == 2:
                    raise KeyboardInterrupt
                yield made

        monkeypatch.setattr(answers, "generate", generate)

    killed_after(5)
    with pytest.raises(KeyboardInterrupt):
        steer(place, out)
    assert len(lines(out)) == 12 + 5 * 2
    assert set(rows(out)["strength"]) == {0.0}
    # The last line was being written.
    (path,) = (out / "completions").iterdir()
    path.write_bytes(path.read_bytes()[:-9])

    killed_after(None)
    steer(place, out)
    assert asked == [12, 12, 0, 8]
    pd.testing.assert_frame_equal(rows(out), rows(whole))
    assert lines(out) == lines(whole)


@pytest.mark.slow
def test_a_traced_run_is_steered_by_its_own_vectors_and_told_of_as_one(place, tmp_path):
    out, sets = tmp_path / "run", read_all([str(place / "stereoset.csv")])
    ref, config = reference(place / "chat"), SweepConfig(dtype="float32")
    assert trace_into(out, [ref], sets, config) == 0
    traced = RunDirectory(out).record()
    steer(place, out, files=(str(out / "vectors/chat.safetensors"),), sets=(), names=("stereoset",), statements=sets)
    assert set(rows(out)["vector_from"]) == {"chat"}
    record = RunDirectory(out).record()
    assert {name: record[name] for name in traced} == traced
    assert trace_into(out, [ref], sets, config) == 0
    assert RunDirectory(out).record()["steering_commands"] == record["steering_commands"]
    words = write_report(out).read_text(encoding="utf-8")
    for section in ("Probe accuracy", "Steering", "1 of 1 checkpoints traced"):
        assert section in words


@pytest.mark.slow
def test_a_report_of_a_run_that_was_only_steered_tells_what_was_run(both):
    words = write_report(both).read_text(encoding="utf-8")
    assert "Steering" in words
    assert "Trustworthiness in chat" in words
    assert "No checkpoint was traced here; what steering did is below" in words
    assert RunDirectory(both).record()["steering_commands"][0]["time"] in words


# What is refused


@pytest.fixture
def refused(place, tmp_path):
    """The message of the InputError that steering ends in; it leaves no run directory behind."""

    def refuse(**changed):
        out = changed.pop("out", tmp_path / "run")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(InputError) as caught:
            steer(place, out, **changed)
        assert "\n" not in str(caught.value)
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return refuse


def test_vectors_of_another_model_are_refused(place, tmp_path, refused):
    narrow = write_vectors(tmp_path / "narrow.safetensors", width=12)
    assert "vectors of width 12; chat has width 24" in refused(files=(str(narrow),))
    other = {"model_type": "olmo2", "width": 24, "depth": 5}
    alien = write_vectors(tmp_path / "alien.safetensors", model=other)
    assert "vectors of a olmo2 model of 5 layers" in refused(files=(str(alien),))
    assert steer(place, tmp_path / "any", files=(str(alien),), any_family=True) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": ((7,),)}, "--layers asks for 7; chat has layers 0 to 2"),
        ({"strengths": (float("inf"),)}, "a strength of inf is not a number to steer with"),
        ({"sets": ("sst2",)}, "--vector_set=sst2: the vectors hold no set 'sst2', but stereoset, toxigen"),
        ({"sets": ()}, "base_step7.safetensors: holds vectors of stereoset, toxigen; say which by --vector_set"),
        ({"names": ("poetry",)}, "--tasks: no task 'poetry'; there are"),
        ({"names": ()}, "--tasks names nothing"),
        ({"files": ("nothing/*.safetensors",)}, "--vectors: 'nothing/*.safetensors' matches nothing"),
        ({"files": ("nothing.safetensors",)}, "nothing.safetensors: not found"),
        ({"sets": ("stereoset", "stereoset+toxigen"), "towards_good": True}, "does not say which side is trustworthy"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(refused, changed, message):
    assert message in refused(**changed)


def test_layers_that_the_vectors_lack_are_refused(tmp_path, refused):
    some = write_vectors(tmp_path / "some.safetensors", layers=[0, 2, 3], model=None)
    assert "the vectors of base_step7 have no layer 1; they have 0, 2" in refused(files=(str(some),))


def test_a_prompt_longer_than_the_context_is_refused(tmp_path, refused):
    short = write_chat(tmp_path / "short", context=32)
    message = refused(target=short)
    assert message.startswith("stereoset, row 12: ")
    assert "longer than the context of short, 32" in message


def test_a_judge_that_is_missing_or_is_none_is_refused(place, tmp_path, refused):
    write_set(tmp_path / "toxigen.csv")
    toxigen = {"names": ("toxigen",), "data_dir": tmp_path}
    assert "give --toxicity_judge=FOLDER" in refused(**toxigen)
    assert "is not a classifier" in refused(**toxigen, judges=Judges(toxicity=place / "chat"))


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path, refused):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    assert "holds other files and no readable run.json" in refused(out=folder)


def test_a_target_that_is_no_model_is_refused(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(target=tmp_path / "empty")


def test_plain_vectors_are_longer_as_their_norms_say_and_told_apart(place, tmp_path):
    twice = write_vectors(tmp_path / "twice.safetensors", scale=6.0)
    norms = {name: np.linalg.norm(array, axis=1).tolist() for name, array in read_vectors(twice).arrays.items()}
    path = write_vectors(tmp_path / "v.safetensors", plain_norm=norms)
    steer(place, tmp_path / "run", files=(str(twice),))
    steer(place, tmp_path / "plain", files=(str(path),), scale="plain", random=(0,))
    found, plain = (rows(tmp_path / name) for name in ("run", "plain"))
    assert set(plain["vector_from"]) == {"base_step7:plain", "base_step7:plain-random"}
    plain = plain[plain["vector_from"] == "base_step7:plain"]
    np.testing.assert_allclose(plain["value"], found["value"], rtol=1e-5)


@pytest.mark.parametrize("suffix", ["gguf", "pt", "npz"])
def test_an_exported_vector_does_what_it_did_at_its_strength(place, tmp_path, suffix):
    path = place / "vectors/base_step7.safetensors"
    write_vector(tmp_path / f"v.{suffix}", chosen_vector(read_vectors(path), path, "stereoset", (1, 2)), strength=2.0)
    steer(place, tmp_path / "run", strengths=(0.0, 2.0), layers=((1,), (2,)))
    exported = (str(tmp_path / f"v.{suffix}"),)
    steer(place, tmp_path / "exported", strengths=(0.0, 1.0), layers=((1,), (2,)), files=exported, sets=())
    found, back = (rows(tmp_path / name) for name in ("run", "exported"))
    assert (set(back["vector_from"]), set(back["vector_set"])) == ({"base_step7"}, {"2*stereoset"})
    assert back["value"].tolist() == found["value"].tolist()
