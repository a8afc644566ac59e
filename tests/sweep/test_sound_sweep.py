"""Sweeps that measure by both protocols: what they write, what they write again, and what they refuse."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from jtrace.checkpoints.refs import parse_specs
from jtrace.commands.trace import trace_into
from jtrace.data.loading import read_all
from jtrace.errors import InputError
from jtrace.probing.sound_set import SoundConfig
from jtrace.runs.run_directory import RunDirectory
from jtrace.sweep.config import SweepConfig
from tests.conftest import ROOT, with_devices
from tests.in_process import refusal
from tests.tiny_sweep import write_steps

pytestmark = pytest.mark.slow

SOUND = SoundConfig(permutations=20, draws=100, information_rows=20, folds=3)
CONFIG = SweepConfig(dtype="float32", protocols=("paper", "sound"), sound=SOUND, keep_activations=True)


def trace(folder, out, spec="step*", config=CONFIG, sets=("mine.csv", "other.csv")):
    refs = parse_specs([str(folder / spec)], lambda repo: [])
    return trace_into(folder / out, refs, read_all([str(folder / name) for name in sets]), config)


def contents(run):
    folders = ("metrics", "vectors", "projections", "probes", "scores", "baselines", "dynamics")
    return {
        str(path.relative_to(run)): path.read_bytes()
        for folder in folders
        for path in sorted((run / folder).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = write_steps(tmp_path_factory.mktemp("sound"), [1, 20, 300])
    rows = (folder / "mine.csv").read_text().splitlines()
    other = [rows[0], *(row.replace(" yes", "x yes").replace(" no", "x no") for row in rows[1:])]
    (folder / "other.csv").write_text("\n".join(other) + "\n")
    assert trace(folder, "run") == 0
    return folder


def test_held_out_scores_are_there_by_both_protocols(swept):
    scores = pd.read_parquet(swept / "run/scores")
    assert set(scores["protocol"]) == {"paper", "sound"}
    assert set(scores["dataset"]) == {"mine", "other"}
    assert len(list((swept / "run/scores").iterdir())) == 3


def test_each_protocol_has_its_rows_in_the_same_tables(swept):
    table = pd.read_parquet(swept / "run/metrics")
    assert set(table["protocol"]) == {"paper", "sound"}
    paper, sound = (set(table.loc[table["protocol"] == name, "metric"]) for name in ("paper", "sound"))
    assert paper == {"probe_accuracy", "probe_auroc", "mi_xt", "mi_yt", "vector_norm", "text_accuracy",
                     "majority_accuracy", "effective_groups"}  # fmt: skip
    assert {"probe_accuracy", "text_accuracy", "random_init_accuracy", "probe_ece_p", "mi_xt_null", "mi_yt_bound",
            "chosen_layer_accuracy", "transfer_auroc:other", "transfer_accuracy:mine"} <= sound  # fmt: skip
    assert table["value"].notna().all()
    keys = ["revision", "dataset", "layer", "protocol", "metric"]
    assert not table.duplicated(keys).any()


def test_random_params_are_drawn_three_times_and_each_time_others(swept):
    (file,) = (swept / "run/baselines").iterdir()
    scores = load_file(file)
    assert {name: array.shape[:3] for name, array in scores.items()} == dict.fromkeys(("mine", "other"), (3, 3, 1))
    first, second, third = scores["mine"].swapaxes(0, 1)
    assert (first != second).any()
    assert (second != third).any()


def test_paper_is_what_it_is_without_sound(swept):
    alone = dataclasses.replace(CONFIG, protocols=("paper",), keep_activations=False)
    assert trace(swept, "alone", config=alone) == 0
    both, paper = (pd.read_parquet(swept / run / "metrics") for run in ("run", "alone"))
    both = both[both["protocol"] == "paper"].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, paper.reset_index(drop=True))
    assert not (swept / "alone/probes").exists()
    assert not (swept / "alone/baselines").exists()


def test_the_same_command_in_another_directory_gives_the_same_bytes(swept):
    assert trace(swept, "again") == 0
    one, other = contents(swept / "run"), contents(swept / "again")
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


def test_a_rerun_does_what_is_missing_and_gives_the_same_bytes(swept):
    before = contents(swept / "run")
    (swept / "run/probes/step20.safetensors").unlink(missing_ok=True)
    lost = next((swept / "run/probes").glob("*step20*"), None)
    if lost is not None:
        lost.unlink()
    (baseline,) = (swept / "run/baselines").iterdir()
    baseline.write_bytes(b"damaged")
    assert trace(swept, "run") == 0
    assert contents(swept / "run") == before


def test_transfer_between_checkpoints_comes_from_kept_activations(swept):
    run = RunDirectory(swept / "run")
    transfer, metrics = run.read_dynamics("transfer"), run.read_metrics()
    assert len(transfer) == 3 * 3 * 3 * 2  # pairs of checkpoints, layers, sets
    own = transfer[transfer["trained_at"] == transfer["tested_at"]]
    sound = metrics[(metrics["protocol"] == "sound") & (metrics["metric"] == "probe_accuracy")]
    sound = sound.assign(tested_at=sound["model"] + "@" + sound["revision"])
    joined = own.merge(sound, on=["dataset", "layer", "tested_at"])
    assert len(joined) == len(own)
    np.testing.assert_allclose(joined["accuracy"], joined["value"], atol=1e-6)


def test_the_course_is_tabled(swept):
    angles = RunDirectory(swept / "run").read_dynamics("angles")
    assert set(angles["kind"]) == {"checkpoints", "layers", "sets"}
    assert angles["cosine"].between(-1 - 1e-6, 1 + 1e-6).all()


def test_other_settings_of_sound_are_another_run(swept):
    with pytest.raises(InputError, match="sound_seed was 0"):
        trace(swept, "run", config=dataclasses.replace(CONFIG, sound=dataclasses.replace(SOUND, seed=1)))


def test_a_set_that_cannot_be_split_is_refused_before_anything_is_traced(swept):
    (swept / "few.csv").write_text(
        "statement,label,group\n" + "".join(f"row {i},{i % 2},{i // 8}\n" for i in range(16))
    )
    with pytest.raises(InputError, match=r"few\.csv: 2 groups of rows cannot fill 3 folds"):
        trace(swept, "few", sets=("few.csv",))
    assert not (swept / "few/metrics").exists()


@pytest.mark.long
def test_the_command_takes_every_setting_and_two_devices_find_what_one_does(swept):
    command = [
        sys.executable, str(ROOT / "launch/trace.py"), f"--checkpoints={swept}/step300", f"--out={swept}/mesh",
        f"--statements={swept}/mine.csv,{swept}/other.csv", "--protocol=paper,sound", "--dtype=float32", "--folds=3",
        "--repeats=1", "--inner_folds=1", "--permutations=20", "--draws=100", "--information_rows=20", "--seed=0",
    ]  # fmt: skip
    environment = os.environ | {"XLA_FLAGS": with_devices(2), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    mesh, alone = (pd.read_parquet(swept / run / "metrics") for run in ("mesh", "run"))
    keys = ["dataset", "layer", "protocol", "metric"]
    joined = mesh.merge(alone[alone["revision"] == "step300"], on=keys, suffixes=("", "_alone"))
    assert len(joined) == len(mesh)
    counted = joined["metric"].str.contains("accuracy")
    np.testing.assert_allclose(joined["value"][counted], joined["value_alone"][counted], atol=0.051)
    smooth = joined["metric"].isin(["mi_xt", "mi_yt", "hsic_xt", "cka_xt", "mi_xt_null", "vector_norm"])
    np.testing.assert_allclose(joined["value"][smooth], joined["value_alone"][smooth], rtol=5e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("--protocol=neat", "known are paper, sound"), ("--folds=1", "folds"), ("--permutations=2", "permutations")],
)
def test_unknown_settings_are_refused_in_a_line(swept, flag, expected):
    where = (f"--checkpoints={swept}/step300", f"--out={swept}/none", f"--statements={swept}/mine.csv")
    assert expected in refusal("trace", *where, flag)
    assert not (swept / "none").exists()
