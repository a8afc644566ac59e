"""Pre-training runs: kept steps are checkpoints, and a run that was killed ends where an uninterrupted one does."""

import dataclasses
import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jtrace.checkpoints.export import convert_folder
from jtrace.checkpoints.orbax import read_checkpoint
from jtrace.checkpoints.pretraining_run import kept_steps, read_log
from jtrace.data.corpus.readers import Message
from jtrace.data.tokenizer import read_tokenizer
from jtrace.errors import InputError
from jtrace.models.families import read_model_config
from jtrace.models.presets import Preset
from jtrace.pretraining import loop
from jtrace.pretraining import run as pretraining_run
from jtrace.pretraining.config import PretrainConfig
from jtrace.pretraining.directory import TrainingRun
from jtrace.pretraining.run import micro_batches, pretrain
from jtrace.pretraining.step import Optimisation, initial_params, initial_state, local_mesh
from tests.conftest import ROOT, letter_tokenizer

SMALL = Preset(32, 2, 2, 2, 48, 300, 16, 4, 1e-2, tied_head=True, device_rows=4, remat=False)
DOCUMENTS = [f"{name} likes {thing} and {thing} likes {name}" for name in "abcdefgh" for thing in "rstuvwxyz"]
ARCHITECTURE, _ = read_model_config(SMALL.config_json(300, 16, 0, 1), "small")
CONFIG = PretrainConfig(Optimisation(8, 1e-2, 2), (0, 1, 2, 4, 8), 16, 4, "tiny", save_every=3, validate_every=3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(pretraining_run.find_preset.__globals__["PRESETS"], "tiny", SMALL)


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory) -> Iterator[Path]:
    """Where compilations are kept: most runs of this file share theirs."""
    folder = tmp_path_factory.mktemp("compiled")
    changed = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changed}
    for name, value in changed.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """A whole run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pretraining_run.find_preset.__globals__["PRESETS"], "tiny", SMALL)
        pretrain(out, DOCUMENTS, CONFIG, quiet=True)
    return out


def values(folder: Path) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(read_checkpoint(folder, jnp.float32)[1])])


def assert_same_run(found: Path, expected: Path) -> None:
    assert kept_steps(found).keys() == kept_steps(expected).keys()
    for step, folder in kept_steps(expected).items():
        np.testing.assert_array_equal(values(kept_steps(found)[step]), values(folder))
    assert (found / "log.jsonl").read_bytes() == (expected / "log.jsonl").read_bytes()


def change(**fields) -> PretrainConfig:
    return dataclasses.replace(CONFIG, **fields)


def test_every_kept_step_is_a_checkpoint_with_its_own_weights(uninterrupted):
    kept = kept_steps(uninterrupted)
    assert list(kept) == [0, 1, 2, 4, 8]
    assert len({values(folder).tobytes() for folder in kept.values()}) == 5
    assert len(read_tokenizer(kept[8])) == read_checkpoint(kept[8], jnp.float32)[0].vocab_size


def test_the_log_has_a_line_per_step(uninterrupted):
    log = read_log(uninterrupted)
    assert [line["step"] for line in log] == list(range(9))
    assert [line["step"] for line in log if "validation_loss" in line] == [0, 1, 2, 3, 4, 6, 8]
    assert log[8]["validation_loss"] < log[0]["validation_loss"]
    assert 3 * 4 * 8 < log[8]["tokens"] <= 16 * 4 * 8
    assert {"loss", "learning_rate", "grad_norm", "tokens"} < log[8].keys()


def test_a_finished_run_is_left_as_it_is(uninterrupted, monkeypatch):
    monkeypatch.setattr(pretraining_run, "train", lambda *_: pytest.fail("began again"))
    pretrain(uninterrupted, DOCUMENTS, CONFIG, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, *(pytest.param(stop, marks=pytest.mark.long) for stop in (7, 12))])
def test_a_run_that_broke_off_goes_on_to_the_same_params_and_log(tmp_path, uninterrupted, monkeypatch, stop):
    real = loop.to_batch
    calls = iter(range(10**6))

    def break_off(*arguments):
        if next(calls) == stop:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "to_batch", break_off)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "run", DOCUMENTS, CONFIG, quiet=True)
    monkeypatch.setattr(loop, "to_batch", real)
    pretrain(tmp_path / "run", DOCUMENTS, CONFIG, quiet=True)
    assert_same_run(tmp_path / "run", uninterrupted)


SCRIPT = """
import sys
from pathlib import Path
from tests.pretraining import test_run as t
t.pretraining_run.find_preset.__globals__["PRESETS"]["tiny"] = t.SMALL
"""


def in_a_process(out: Path, body: str, compiled: Path | str = "") -> subprocess.Popen:
    """A fresh Python at work on a run."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PLATFORMS": "cpu"}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [sys.executable, "-c", SCRIPT + body, out]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.long)])
def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(tmp_path, uninterrupted, compiled, kills):
    body = "t.pretrain(Path(sys.argv[1]), t.DOCUMENTS, t.CONFIG, quiet=True)"
    out, moments = tmp_path / "run", random.Random(kills)
    # Some kills fall while the first files are written, the others after as many kept steps as chance will have it.
    for kill in range(kills):
        process = in_a_process(out, body, compiled)
        awaited = out / "pretrain.json" if kill == 0 else out / f"step{moments.choice(CONFIG.keep[1:]):06d}"
        while process.poll() is None and not awaited.exists():
            time.sleep(0.001)
        time.sleep(moments.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = in_a_process(out, body, compiled)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_same_run(out, uninterrupted)
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_the_last_state_and_what_was_kept(tmp_path, uninterrupted):
    body = """
import resource
from jtrace.commands import cli
real, calls = t.loop.to_batch, iter(range(1, 10**6))
def fill(*arguments):
    if next(calls) == 8:  # after the state at step 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    return real(*arguments)
t.loop.to_batch = fill
out = Path(sys.argv.pop())
cli.run(lambda: t.pretrain(out, t.DOCUMENTS, t.CONFIG, quiet=True))
"""
    out = tmp_path / "run"
    process = in_a_process(out, body)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "cannot be written" in errors
    assert errors.count("\n") == 1, errors
    assert {0, 1, 2} <= kept_steps(out).keys() < set(CONFIG.keep)
    for step, folder in kept_steps(out).items():
        np.testing.assert_array_equal(values(folder), values(kept_steps(uninterrupted)[step]))
    pretrain(out, DOCUMENTS, CONFIG, quiet=True)
    assert_same_run(out, uninterrupted)


@pytest.mark.slow
def test_a_run_that_goes_on_neither_tokenises_again_nor_holds_params_twice(tmp_path, monkeypatch):
    out, real = tmp_path / "run", loop.to_batch
    calls = iter(range(10**6))

    def break_off(*arguments):
        if next(calls) == 12:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "to_batch", break_off)
    with pytest.raises(KeyboardInterrupt):
        pretrain(out, DOCUMENTS, CONFIG, quiet=True)
    monkeypatch.setattr(loop, "to_batch", real)
    monkeypatch.setattr(pretraining_run, "tokenise", lambda *_: pytest.fail("tokenised again"))
    load, held = TrainingRun.load, []

    def watched(run, like):
        gc.collect()
        held.append({array.shape for array in jax.live_arrays()})
        return load(run, like)

    monkeypatch.setattr(TrainingRun, "load", watched)
    pretrain(out, DOCUMENTS, CONFIG, quiet=True)
    assert (300, 32) not in held[0]
    assert len(kept_steps(out)) == 5


def test_the_first_state_takes_the_params_over():
    params = initial_params(ARCHITECTURE, 0)
    state = initial_state(params, CONFIG.optimisation, local_mesh())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(params)) or all(
        ours.unsafe_buffer_pointer() == theirs.unsafe_buffer_pointer()
        for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True)
    )


def test_a_run_of_another_configuration_or_text_is_refused_with_the_difference(uninterrupted):
    with pytest.raises(InputError, match="another configuration: seed is 1, was 0; take another --out"):
        pretrain(uninterrupted, DOCUMENTS, change(seed=1), quiet=True)
    with pytest.raises(InputError, match=r"another text: characters is \d+, was \d+, count is 71, was 72, sha256 is"):
        pretrain(uninterrupted, DOCUMENTS[1:], CONFIG, quiet=True)


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="holds something that is no pre-training run"):
        pretrain(tmp_path, DOCUMENTS, CONFIG, quiet=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 4000}, r"make \d+ rows of 16, a step takes 4000; give more text"),
        ({"preset": "huge"}, "--preset=huge: not known"),
        ({"keep": (9,)}, "--keep: step 9 is not among 0 to 8"),
        ({"vocab_size": 10}, "--vocab_size=10: bytes and special tokens alone"),
        ({"context": 1}, "--context=1"),
        ({"init_from": Path("x")}, "either --preset"),
        ({"tokenizer": Path("nowhere")}, "no tokeniser files"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        pretrain(tmp_path / "run", DOCUMENTS, change(**fields), quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint_with_conversations(tmp_path, uninterrupted):
    start = kept_steps(uninterrupted)[8]
    chats = [(Message("user", f"{a}{b}?"), Message("assistant", a)) for a in "abcdef" for b in "uvwxyz"]
    tuned = change(preset=None, init_from=start, keep=(0, 8), optimisation=Optimisation(8, 1e-3, 2))
    pretrain(tmp_path / "chat", chats, tuned, quiet=True)
    kept = kept_steps(tmp_path / "chat")
    np.testing.assert_array_equal(values(kept[0]), values(start))
    assert not np.array_equal(values(kept[8]), values(start))
    log = read_log(tmp_path / "chat")
    assert log[8]["loss"] < log[1]["loss"]


def test_a_tokeniser_that_does_not_match_the_checkpoint_is_refused(tmp_path, uninterrupted):
    letter_tokenizer(tmp_path)
    wrong = change(preset=None, init_from=kept_steps(uninterrupted)[8], tokenizer=tmp_path)
    with pytest.raises(InputError, match=r"is not the one of .*step000008: token 0 is '<|bos|>' there"):
        pretrain(tmp_path / "run", ["abc"] * 99, wrong, quiet=True)


def test_a_refused_run_leaves_a_folder_as_it_was(tmp_path):
    out = tmp_path / "mine"
    (out / ".git").mkdir(parents=True)
    (out / ".notes.tmp").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="give more text"):
        pretrain(out, ["abc"], change(), quiet=True)
    assert sorted(child.name for child in out.iterdir()) == [".git", ".notes.tmp"]
    with pytest.raises(InputError, match="give more text"):
        pretrain(tmp_path / "new", ["abc"], change(), quiet=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "--seed=-1: give 0 to"),
        ({"optimisation": Optimisation(8, 1e-3, 2, beta2=1.0)}, "--beta2=1.0: give 0 to 0.99999"),
        ({"optimisation": Optimisation(8, 1e-3, 2, weight_decay=-1.0)}, "--weight_decay=-1.0: give 0 to 1000"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong, message):
    with pytest.raises(InputError, match=message):
        change(**wrong)


def test_a_loss_that_is_not_finite_stops_the_run_and_no_such_state_is_kept(tmp_path):
    wild = change(optimisation=Optimisation(8, 1e30, 0), keep=(0, 8))
    with pytest.raises(InputError, match=r"not finite at step \d"):
        pretrain(tmp_path / "run", DOCUMENTS, wild, quiet=True)
    assert list(kept_steps(tmp_path / "run")) == [0]


def test_rows_are_shared_out_evenly():
    assert [micro_batches(32, 2, most) for most in (64, 16, 10, 1)] == [1, 1, 2, 16]
    with pytest.raises(InputError, match="--rows=3: cannot be shared evenly by 2 devices"):
        micro_batches(3, 2, 8)


@pytest.mark.torch
def test_an_exported_kept_step_has_torch_s_logits(tmp_path, uninterrupted):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    from transformers import AutoModelForCausalLM

    from jtrace.models.decoder import Decoder, Slots

    convert_folder(kept_steps(uninterrupted)[8], tmp_path / "hf", "hf")
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report.values())
    config, params = read_checkpoint(kept_steps(uninterrupted)[8], jnp.float32)
    tokens = np.arange(12)[None]
    slots = Slots(jnp.asarray(tokens), jnp.arange(12)[None], jnp.full((1, 12), 12))
    found = Decoder(config).apply({"params": params}, slots, jnp.zeros((1, 1), int), method="full_forward")
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(tokens)).logits.numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_the_launch_script_trains_and_refuses_in_one_line(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(DOCUMENTS * 4))

    def launch(*flags):
        command = [sys.executable, "launch/pretrain.py", f"--text={tmp_path}/text.txt", f"--out={tmp_path}/run", *flags]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)

    small = ("--preset=tiny", "--vocab_size=300", "--context=16", "--rows=4", "--steps=2", "--warmup=1")
    done = launch(*small, "--keep=0-2/2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"kept 2 steps in {tmp_path}/run")
    assert json.loads((tmp_path / "run/pretrain.json").read_text())["config"]["keep"] == [0, 2]
    refused = launch(*small, "--keep=3")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "'3' does not lie in 0 to 2" in refused.stderr
