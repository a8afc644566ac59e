"""A sweep over checkpoints: what lands, what fails, what a rerun does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import processors

from jtrace.checkpoints.load import load_params
from jtrace.checkpoints.refs import parse_specs
from jtrace.commands.trace import FLAGS, trace_into
from jtrace.data.loading import read_all
from jtrace.data.tokenizer import encode, read_tokenizer
from jtrace.dynamics.trajectory import trajectories
from jtrace.errors import InputError
from jtrace.evaluation.task import Choice, Outcome, Task
from jtrace.inference import residuals
from jtrace.inference.packing import pack
from jtrace.inference.residuals import extract_residuals
from jtrace.models.config import DecoderConfig
from jtrace.probing import layer_map
from jtrace.probing.vector_files import ModelFacts, read_vectors
from jtrace.probing.vectors import KINDS
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep import baselines, checkpoint, pipeline
from jtrace.sweep.check import Checked
from jtrace.sweep.config import SweepConfig
from tests.conftest import GOLDENS, ROOT, letter_tokenizer, relative_error, with_devices
from tests.in_process import refusal

CONFIG = SweepConfig(dtype="float32")


def no_hub(repo: str) -> list[str]:
    raise AssertionError(f"asked the hub for {repo}")


def trace(
    steps: Path,
    out: str = "run",
    spec: str = "tiny/step*",
    config: SweepConfig = CONFIG,
    sets: str = "mine.csv",
    tasks: Sequence[Task] = (),
) -> int:
    refs = parse_specs([str(steps / spec)], no_hub)
    return trace_into(steps / out, refs, read_all([str(steps / sets)]), config, tasks=tasks)


def damage(folder: Path, name: str = "model.embed_tokens.weight") -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name][0, 0] = np.nan
    save_file(weights, folder / "model.safetensors")


def files(run: Path) -> dict[str, bytes]:
    """Every table, vector file and table of projections of a run."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for folder in ("metrics", "vectors", "projections", "scores", "steering")
        for path in sorted((run / folder).rglob("*"))
        if path.is_file()
    }


@pytest.mark.draws
def test_every_checkpoint_lands_and_the_command_ends_with_a_table(steps, capsys):
    assert trace(steps) == 0
    table = pd.read_parquet(steps / "run/metrics")
    assert set(table["revision"]) == {"step2", "step10", "step100"}
    assert set(table["model"]) == {"tiny"}
    assert set(table["layer"]) == {0, 1, 2}
    assert set(load_file(steps / "run/vectors/tiny@step10.safetensors")) == {"mine"}
    assert not (steps / "run/failures.jsonl").exists()
    printed = capsys.readouterr().out
    for expected in (
        "best layer",
        "tiny@step2",
        "tiny@step100",
        "run/metrics",
        "run/vectors",
        "_over_checkpoints_paper.png",
    ):
        assert expected in printed


@pytest.mark.slow
def test_the_text_only_baseline_is_fitted_once_and_stands_beside_every_probe(steps, monkeypatch):
    fitted = []
    original = baselines.text_baseline
    monkeypatch.setattr(baselines, "text_baseline", lambda one: fitted.append(one.name) or original(one))
    assert trace(steps) == 0
    assert fitted == ["mine"]
    table = pd.read_parquet(steps / "run/metrics")
    keys = ["revision", "dataset", "layer", "protocol", "n"]
    probes, texts = (table[table["metric"] == metric][keys] for metric in ("probe_accuracy", "text_accuracy"))
    pd.testing.assert_frame_equal(probes.reset_index(drop=True), texts.reset_index(drop=True))
    assert table.loc[table["metric"] == "text_accuracy", "value"].unique() == [1.0]  # texts end in yes or no


def test_a_rerun_does_only_what_is_missing(steps, monkeypatch):
    trace(steps)
    before = files(steps / "run")
    (steps / "run/metrics/tiny@step10.parquet").unlink()
    traced = []
    original = pipeline.trace_checkpoint
    monkeypatch.setattr(
        pipeline, "trace_checkpoint", lambda one, *args: traced.append(one.ref.name) or original(one, *args)
    )
    assert trace(steps) == 0
    assert traced == ["tiny@step10"]
    assert files(steps / "run") == before


def scale(folder: Path, by: float, name: str = "model.layers.2.mlp.up_proj.weight") -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name] * np.float32(by)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.slow
def test_weights_that_were_replaced_are_named_and_traced_again(steps, capsys):
    """A tensor of the last block alone differs: neither the size, the embedding nor scores of lower layers tell."""
    trace(steps, config=SweepConfig(dtype="float32", vector_kinds=("mass_mean", "pca")))
    before = files(steps / "run")
    capsys.readouterr()
    scale(steps / "tiny/step10", 1.5)
    assert trace(steps) == 0
    told = capsys.readouterr()
    where = steps / "tiny/step10"
    assert f"warning: tiny@step10: weights of {where} changed since; it is traced again" in told.err
    assert "2 of 3 checkpoints are traced already" in told.out
    after = files(steps / "run")
    assert {name for name in before if before[name] != after.get(name)} == {
        "metrics/tiny@step10.parquet",
        "vectors/tiny@step10.safetensors",
        "vectors/pca/tiny@step10.safetensors",  # of the earlier weights, and not asked for now
        "projections/tiny@step10.parquet",
    }
    assert "vectors/pca/tiny@step10.safetensors" not in after
    assert trace(steps) == 0
    assert "3 of 3 checkpoints are traced already" in capsys.readouterr().out


@pytest.mark.slow
def test_another_config_or_tokeniser_of_a_traced_checkpoint_is_noticed(steps, capsys):
    trace(steps)
    for file, part in (("config.json", "config"), ("tokenizer.json", "tokenizer")):
        path = steps / "tiny/step2" / file
        path.write_text(json.dumps(json.loads(path.read_text()), indent=3))
        capsys.readouterr()
        assert trace(steps) == 0
        assert f"warning: tiny@step2: {part} of {path.parent} changed since" in capsys.readouterr().err


@pytest.mark.slow
def test_checkpoints_that_were_moved_are_traced_already(steps, capsys):
    trace(steps)
    (steps / "elsewhere").mkdir()
    shutil.copytree(steps / "tiny", steps / "elsewhere/tiny", copy_function=shutil.copyfile)
    shutil.rmtree(steps / "tiny")
    assert trace(steps, spec="elsewhere/tiny/step*") == 0
    assert "3 of 3 checkpoints are traced already" in capsys.readouterr().out


@pytest.mark.slow
def test_another_checkpoint_of_a_traced_one_s_name_is_refused(steps, capsys):
    trace(steps)
    shutil.move(steps / "tiny", steps / "elsewhere")
    shutil.copytree(steps / "elsewhere", steps / "tiny")
    shutil.move(steps / "elsewhere", steps / "other/tiny")
    scale(steps / "other/tiny/step10", 1.5)
    before = files(steps / "run")
    assert trace(steps, spec="other/tiny/step*") == 1
    assert f"made from {steps}/tiny/step10, not from {steps}/other/tiny/step10" in capsys.readouterr().err
    assert files(steps / "run") == before


@pytest.mark.slow
def test_what_was_traced_stays_so_once_its_weights_are_gone(steps, capsys):
    trace(steps)
    (steps / "tiny/step10/model.safetensors").unlink()
    assert trace(steps) == 0
    assert "3 of 3 checkpoints are traced already" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_of_a_release_that_kept_no_content_goes_on(steps, monkeypatch, capsys):
    with monkeypatch.context() as earlier:
        earlier.setattr(Checked, "with_content", lambda checked: checked)
        trace(steps, tasks=[yes_or_no()])
    before = files(steps / "run")
    capsys.readouterr()
    assert trace(steps, tasks=[yes_or_no()]) == 0
    assert "3 of 3 checkpoints are traced already" in capsys.readouterr().out
    assert files(steps / "run") == before


@pytest.mark.slow
def test_answers_are_kept_by_the_weights_that_gave_them(steps):
    trace(steps, tasks=[yes_or_no()])
    before = files(steps / "run")
    scale(steps / "tiny/step10", 1.5)
    assert trace(steps, tasks=[yes_or_no()]) == 0
    fresh = [name for name in files(steps / "run") if name not in before]
    assert [name.partition("__")[0] for name in fresh] == ["steering/tiny@step10"]


@pytest.mark.slow
def test_a_course_is_in_the_order_of_steps_in_tables_and_dynamics(steps):
    for name, new in (("step2", "pythia-step0"), ("step10", "pythia-step200"), ("step100", "pythia-step-1k")):
        (steps / "tiny" / name).rename(steps / "tiny" / new)
    assert trace(steps, spec="tiny/*") == 0
    table = RunDirectory(steps / "run").read_metrics()
    assert table.groupby("revision")["step"].first().to_dict() == {
        "pythia-step0": 0,
        "pythia-step200": 200,
        "pythia-step-1k": 1000,
    }
    (curve,) = trajectories(table)
    assert curve.checkpoints == ["tiny@pythia-step0", "tiny@pythia-step200", "tiny@pythia-step-1k"]
    assert curve.places.tolist() == [0, 200, 1000]


@pytest.mark.slow
def test_every_kind_of_vector_has_its_file_beside_the_published_one(steps, monkeypatch):
    config = SweepConfig(dtype="float32", layers=(0, 2), vector_kinds=tuple(KINDS))
    assert trace(steps, "plain", config=SweepConfig(dtype="float32", layers=(0, 2))) == 0
    assert trace(steps, config=config) == 0
    before, name = files(steps / "run"), "tiny@step10.safetensors"
    assert files(steps / "plain").items() <= before.items()
    for kind in KINDS:
        found = read_vectors(steps / "run/vectors" / ("" if kind == "mass_mean" else kind) / name)
        assert (found.checkpoint, found.kind, found.layers) == ("tiny@step10", kind, (0, 2))
        assert found.arrays["mine"].shape == (2, 24)
        assert found.model == ModelFacts("llama", width=24, depth=3)
        assert found.one_is_good == {"mine": None}
        # Only the published vector is a difference of means.
        assert (found.plain_norms is not None) == (kind == "mass_mean")

    (steps / "run/vectors/pca" / name).unlink()
    traced = []
    original = pipeline.trace_checkpoint
    monkeypatch.setattr(
        pipeline, "trace_checkpoint", lambda one, *args: traced.append(one.ref.name) or original(one, *args)
    )
    assert trace(steps, config=config) == 0
    assert traced == ["tiny@step10"]
    assert files(steps / "run") == before


@pytest.mark.slow
def test_a_table_that_cannot_be_written_takes_vectors_of_every_kind_along(steps, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jtrace.runs.metrics_files.pq.write_table", full)
    config = SweepConfig(dtype="float32", layers=(0,), vector_kinds=("mass_mean", "pca"))
    assert trace(steps, spec="tiny/step10", config=config) == 1
    assert files(steps / "run") == {}


@pytest.mark.slow
def test_kinds_of_vectors_may_be_added_and_change_no_number(steps):
    trace(steps)
    before = (steps / "run/metrics/tiny@step2.parquet").read_bytes()
    assert trace(steps, config=SweepConfig(dtype="float32", vector_kinds=("mass_mean", "pca"))) == 0
    assert (steps / "run/vectors/pca/tiny@step2.safetensors").is_file()
    assert (steps / "run/metrics/tiny@step2.parquet").read_bytes() == before


def yes_or_no(length=6):
    """Which of two letters is likelier, of items so long."""
    items = tuple(Choice(i, "abcdefgh"[i] * length, ("y", "n"), str(i)) for i in range(4))

    def measure(answers):
        return {"accuracy": Outcome.of([float(yes > no) for yes, no in answers])}

    return Task("letters", ("paper", "sound"), items, measure, main="accuracy")


@pytest.mark.slow
def test_behind_appended_tokens_the_last_token_of_the_text_is_read(steps, capsys):
    """A tokeniser that puts `</s>` behind every text changes no number of a trace, and the trace says so."""
    assert trace(steps, out="plain") == 0
    for folder in (steps / "tiny").iterdir():
        content = json.loads((folder / "tokenizer.json").read_text())
        template = processors.TemplateProcessing("$A z", special_tokens=[("z", 25)])
        content["post_processor"] = json.loads(template.__getstate__())
        (folder / "tokenizer.json").write_text(json.dumps(content))
    assert trace(steps, out="appending") == 0
    assert (
        "the tokeniser puts special tokens behind a text; the last one before them is read" in capsys.readouterr().err
    )
    kept = RunDirectory(steps / "appending").warnings()
    assert len(kept) == 1
    assert kept[0].startswith("tiny@step10, tiny@step100, tiny@step2: the tokeniser puts special tokens behind a text")
    first, second = (RunDirectory(steps / out).read_metrics() for out in ("plain", "appending"))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
def test_checkpoints_are_asked_as_they_are_and_not_twice(steps):
    task = yes_or_no()
    assert trace(steps, tasks=[task]) == 0
    rows = RunDirectory(steps / "run").read_steering()
    assert set(rows["target"]) == {"tiny@step2", "tiny@step10", "tiny@step100"}
    assert set(rows["protocol"]) == {"paper", "sound"}
    assert set(rows["vector_from"]) == {""}
    assert set(rows["strength"]) == {0.0}
    before = files(steps / "run")
    assert trace(steps, tasks=[task]) == 0
    assert files(steps / "run") == before


@pytest.mark.slow
def test_a_task_that_cannot_be_asked_leaves_the_trace(steps, capsys):
    assert trace(steps, tasks=[yes_or_no(length=200)]) == 1
    assert "letters, row 0: 201 tokens are longer than the context" in capsys.readouterr().err
    assert len(list((steps / "run/metrics").iterdir())) == 3


@pytest.mark.slow
def test_one_compilation_serves_the_whole_sweep(steps):
    residuals._forward.clear_cache()
    layer_map.one_layer.clear_cache()
    trace(steps)
    assert residuals._forward._cache_size() == 1
    assert layer_map.one_layer._cache_size() == 3  # metrics, what is shown of a set, its vector


def test_a_failing_checkpoint_does_not_stop_the_others_and_is_traced_once_mended(steps, capsys):
    good = (steps / "tiny/step10/model.safetensors").read_bytes()
    damage(steps / "tiny/step10")
    assert trace(steps) == 1
    assert {path.stem for path in (steps / "run/metrics").iterdir()} == {"tiny@step2", "tiny@step100"}
    (record,) = map(json.loads, (steps / "run/failures.jsonl").read_text().splitlines())
    assert record["checkpoint"] == "tiny@step10"
    assert "NaN or infinite values" in record["error"]
    assert "1 of 3 checkpoints failed" in capsys.readouterr().err

    (steps / "tiny/step10/model.safetensors").write_bytes(good)
    assert trace(steps) == 0
    assert (steps / "run/failures.jsonl").read_text() == ""


@pytest.mark.slow
def test_kept_activations_are_the_residuals_that_were_traced(steps):
    config = SweepConfig(dtype="float32", layers=(0, 2), keep_activations=True)
    trace(steps, spec="tiny/step10", config=config)
    kept = load_file(steps / "run/activations/tiny@step10/mine.safetensors")["activations"]
    (statements,) = read_all([str(steps / "mine.csv")])
    architecture, params = load_params(steps / "tiny/step10", jnp.float32)
    ids = encode(read_tokenizer(steps / "tiny/step10"), statements.texts)
    alone = extract_residuals(params, architecture, pack([ids[7]], len(ids[7])), dtype=jnp.float32)[:, 0]
    assert kept.shape == (2, 40, 24)
    assert relative_error(kept[:, 7], alone[np.array([0, 2])]) <= 1e-5


@pytest.mark.slow
def test_fewer_layers_give_the_same_numbers_for_those_layers(steps):
    trace(steps, "all", "tiny/step10")
    trace(steps, "some", "tiny/step10", SweepConfig(dtype="float32", layers=(1,)))
    every, some = (pd.read_parquet(steps / run / "metrics") for run in ("all", "some"))
    expected = every[every["layer"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected, rtol=1e-5)


@pytest.mark.slow
def test_blocks_above_the_last_layer_are_not_computed_and_change_no_table(steps, monkeypatch):
    """Cut or whole, every file is the same bytes."""
    depths = []
    original = checkpoint.extract_residuals
    monkeypatch.setattr(
        checkpoint, "extract_residuals", lambda params, config, *args, **how: depths.append(config.depth) or
        original(params, config, *args, **how)
    )  # fmt: skip
    config = SweepConfig(dtype="float32", layers=(0, 1))
    trace(steps, "cut", "tiny/step10", config)
    monkeypatch.setattr(DecoderConfig, "truncated", lambda whole, depth: whole)
    trace(steps, "whole", "tiny/step10", config)
    assert depths == [2, 3]
    cut, whole = files(steps / "cut"), files(steps / "whole")
    assert cut.keys() == whole.keys()
    assert [name for name in cut if cut[name] != whole[name]] == []


@pytest.mark.slow
def test_bfloat16_vectors_and_activations_are_written(steps):
    config = SweepConfig(dtype="bfloat16", keep_activations=True)
    assert trace(steps, spec="tiny/step10", config=config) == 0
    kept = load_file(steps / "run/activations/tiny@step10/mine.safetensors")["activations"]
    assert kept.dtype == jnp.bfloat16


@pytest.mark.slow
def test_a_tokeniser_from_elsewhere_serves_checkpoints_without_one(steps):
    shutil.copytree(steps / "tiny/step2", steps / "tokenizer")
    for path in (steps / "tiny/step10").glob("tokenizer*"):
        path.unlink()
    assert trace(steps, "without", "tiny/step10") == 1
    assert "no tokeniser files" in (steps / "without/failures.jsonl").read_text()
    assert trace(steps, "with", "tiny/step10", SweepConfig(dtype="float32", tokenizer=steps / "tokenizer")) == 0


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        pytest.param(
            lambda s: (s / "tiny/step10/model.safetensors").write_bytes(b"x" * 100), "model.safetensors", id="corrupt"
        ),
        pytest.param(
            lambda s: (s / "tiny/step10/model.safetensors").unlink(), "holds no weights", id="missing weights"
        ),
        pytest.param(
            lambda s: (s / "tiny/step10/tokenizer.json").write_text("{"), "tokeniser cannot be read", id="tokeniser"
        ),
        pytest.param(
            lambda s: (s / "mine.csv").write_text("statement,label\n" + f"{'a' * 200},1\nb,0\n" * 10),
            "mine.csv, row 2: 200 tokens, longer than the model's context of 128",
            id="too long",
        ),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_one_line_that_names_it(steps, spoil, cause, capsys):
    spoil(steps)
    assert trace(steps, spec="tiny/step10") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "tiny@step10" in line
    assert cause in line
    assert not list((steps / "run/metrics").iterdir())
    assert not list((steps / "run/vectors").iterdir())


@pytest.mark.slow
def test_a_half_copied_step_fails_by_name_and_the_others_are_traced(steps, capsys):
    (steps / "tiny/step10/config.json").unlink()
    assert trace(steps) == 1
    assert "tiny@step10" in capsys.readouterr().err
    assert {path.stem for path in (steps / "run/metrics").iterdir()} == {"tiny@step2", "tiny@step100"}


def test_an_unforeseen_error_is_recorded_and_the_others_are_traced(steps, monkeypatch):
    original = pipeline.stage_checkpoint

    def break_one(path, *args, **kwargs):
        if path.name == "step10":
            raise RuntimeError("out of\nmemory")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(pipeline, "stage_checkpoint", break_one)
    assert trace(steps) == 1
    (record,) = map(json.loads, (steps / "run/failures.jsonl").read_text().splitlines())
    assert record["error"] == "RuntimeError: out of memory"
    assert len(list((steps / "run/metrics").iterdir())) == 2


@pytest.mark.slow
def test_two_sets_through_one_packing_equal_each_alone(steps):
    rows = (steps / "mine.csv").read_text().splitlines()
    (steps / "half.csv").write_text("\n".join(rows[:31]) + "\n")
    refs = parse_specs([str(steps / "tiny/step10")], no_hub)
    sets = [str(steps / name) for name in ("mine.csv", "half.csv")]
    assert trace_into(steps / "both", refs, read_all(sets), CONFIG) == 0
    both = pd.read_parquet(steps / "both/metrics")
    for name in ("mine", "half"):
        trace(steps, name, "tiny/step10", sets=f"{name}.csv")
        alone = pd.read_parquet(steps / name / "metrics")
        pd.testing.assert_frame_equal(both[both["dataset"] == name].reset_index(drop=True), alone, rtol=1e-4)


def test_help_explains_every_flag():
    explained = FLAGS.get_help()
    flags = (
        "checkpoints statements out protocol layers dtype data_dir tokenizer keep_activations vector_kinds disk_budget "
        "memory_budget keep_downloads max_failures mesh distributed one_mesh coordinator processes process"
    )
    for flag in flags.split():
        assert f"--{flag}" in explained.replace("--[no]", "--")


def test_a_layer_beyond_the_model_is_named(steps, capsys):
    assert trace(steps, spec="tiny/step10", config=SweepConfig(dtype="float32", layers=(0, 3))) == 1
    assert "--layers asks for 3; tiny@step10 has layers 0 to 2" in capsys.readouterr().err


def test_too_few_rows_stop_everything_before_anything_is_written(steps):
    (steps / "mine.csv").write_text("statement,label\na,1\nb,0\n")
    with pytest.raises(InputError, match=r"mine\.csv"):
        trace(steps)
    assert not (steps / "run").exists()


def test_a_set_that_no_file_can_be_called_by_stops_everything_before_anything_is_written(steps):
    name = "m" * 200
    (steps / "mine.csv").rename(steps / f"{name}.csv")
    with pytest.raises(InputError, match="a name of 200 bytes, and files are called by it"):
        trace(steps, sets=f"{name}.csv")
    assert not (steps / "run").exists()


def command(steps: Path, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "launch/trace.py"), *arguments(steps), *flags]


def arguments(steps: Path) -> list[str]:
    return [
        f"--checkpoints={steps}/tiny/step*", f"--out={steps}/run", f"--statements={steps}/mine.csv", "--dtype=float32"
    ]  # fmt: skip


def test_flags_that_are_refused_leave_no_run(steps):
    for flags, cause in (
        (["--protocol=neat"], "error: --protocol=neat: known are paper, sound"),
        (["--layers=0-x"], "error: --layers=0-x"),
        (["--vector_kinds=pca,mean"], "error: --vector_kinds=pca,mean: known are mass_mean, whitened, probe, pca"),
        (["--statements=nothing.csv"], "error: nothing.csv: "),
        (["--disk_budget=lots"], "error: --disk_budget=lots: no size; give bytes, as 200GB"),
        (["--mesh=data:3"], "error: --mesh=data:3: is a mesh of 3 devices, and there are 1"),
        (["--mesh=rows:1"], "error: --mesh=rows:1: 'rows' is no axis of the mesh; name data and model"),
        (["--one_mesh"], "error: --one_mesh and --coordinator are for several processes; give --distributed as well"),
    ):
        assert refusal("trace", *arguments(steps), *flags).startswith(cause)
    assert not (steps / "run").exists()


def test_what_no_checkpoint_of_a_model_can_pass_is_one_line(steps):
    cause = "error: --memory_budget=1.0 kB: less than the params of tiny@step2, "
    assert refusal("trace", *arguments(steps), "--memory_budget=1kB").startswith(cause)
    assert not list((steps / "run/metrics").iterdir())


@pytest.mark.slow
def test_a_mesh_that_no_checkpoint_of_a_model_fits_is_one_line(steps):
    devices = {"XLA_FLAGS": with_devices(3)}
    line = command(steps, "--mesh=model:3")
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | devices)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    cause = "error: tiny@step2: a model axis of 3 does not divide its 4 heads and 4 key/value heads "
    assert done.stderr.startswith(cause)
    assert not list((steps / "run/metrics").iterdir())


@pytest.mark.torch
def test_checkpoints_pretrained_by_torch_give_the_same_tables_from_both_file_formats(steps):
    """A few dozen steps of a tiny model on its own statements; safetensors and .bin, f32 all along."""
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**json.loads((GOLDENS / "llama-full/config.json").read_text()))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    (statements,) = read_all([str(steps / "mine.csv")])
    rows = torch.tensor(np.stack([ids[:8] for ids in encode(read_tokenizer(steps / "tiny/step2"), statements.texts)]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(41):
        if step % 20 == 0:
            for kind in ("safe", "bin"):
                folder = steps / kind / "llama" / f"step{step}"
                model.save_pretrained(folder)
                letter_tokenizer(folder)
                if kind == "bin":
                    (folder / "model.safetensors").unlink()
                    torch.save(model.state_dict(), folder / "pytorch_model.bin")
        loss = model(input_ids=rows.long(), labels=rows.long()).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    for kind in ("safe", "bin"):
        assert trace(steps, f"run-{kind}", f"{kind}/llama/step*") == 0
    safe, binary = (pd.read_parquet(steps / f"run-{kind}" / "metrics") for kind in ("safe", "bin"))
    assert sorted(safe["step"].unique()) == [0, 20, 40]
    pd.testing.assert_frame_equal(safe, binary)


def test_how_special_tokens_are_read_is_part_of_a_run_s_settings_where_it_is_not_the_usual():
    assert "special_tokens" not in CONFIG.record()  # so runs of earlier releases go on
    assert SweepConfig(special_tokens="text").record()["special_tokens"] == "text"
