"""Checkpoints that strangers damaged on purpose fail alone, in one line that names the file; the others are traced."""

import json
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import pytest

from jtrace.checkpoints.export import convert_folder
from jtrace.checkpoints.refs import CheckpointRef, parse_specs
from jtrace.commands.trace import trace_into
from jtrace.data.loading import read_all
from jtrace.errors import LONGEST, InputError
from jtrace.hub.client import Hub
from jtrace.inference.language_model import load_language_model
from jtrace.sweep.config import SweepConfig
from jtrace.sweep.plan import make_plan, plan_text
from tests.tiny_sweep import write_steps

CONFIG = SweepConfig(dtype="float32")


def edited(name: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        change(values)
        (folder / name).write_text(json.dumps(values))

    return edit


def config(**fields: object) -> Callable[[Path], object]:
    return edited("config.json", lambda values: values.update(fields))


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def tokenizer(**parts: object) -> Callable[[Path], object]:
    return edited("tokenizer.json", lambda values: values.update(parts))


def without_unknown(values: dict) -> None:
    del values["model"]["vocab"]["?"], values["model"]["vocab"]["e"]
    values["added_tokens"] = []


def far_ids(values: dict) -> None:
    values["model"]["vocab"] |= {"e": 2**24}


def backtracking(folder: Path) -> None:
    """A regular expression that gives up, after millions of tries, on the texts that begin as the first one does."""
    word = (folder.parent / "mine.csv").read_text().split()[1][:6]
    regex = f"(?={word})({'|'.join(['[a-z ]'] * 8)})*(?!.)(?=.)"
    tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False})(
        folder
    )


CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
# What is done to a checkpoint, and what is said of it.
ATTACKS = {
    "deep config": (written("config.json", b'{"a":' * 100_000), "config.json: is not JSON (nested too deeply"),
    "vocabulary": (
        config(vocab_size=2**31),
        "config.json: the field 'vocab_size' is 2147483648, and no known",
    ),
    "depth": (config(num_hidden_layers=2**31), "config.json: the field 'num_hidden_layers' is 2147483648"),
    "no number": (config(rms_norm_eps=10**400), "config.json: the field 'rms_norm_eps' is 1000"),
    "charsmap": (tokenizer(normalizer=CHARSMAP), "the tokeniser cannot be read (Precompiled"),
    "no unknown": (edited("tokenizer.json", without_unknown), "cannot tokenise a text (WordLevel error"),
    "backtracking": (backtracking, "cannot tokenise a text (Onig"),
    "far ids": (edited("tokenizer.json", far_ids), "tokenizer.json: gives a token the id 16777216"),
}
STEPS = range(1, len(ATTACKS) + 1)


def refs(place: Path, name: str) -> list[CheckpointRef]:
    return parse_specs([str(place / name)], lambda repo: [])


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A sound checkpoint, a damaged one for each attack, and another sound one."""
    folder = write_steps(tmp_path_factory.mktemp("steps"), [0, *STEPS, 1000])
    for step, (attack, _) in zip(STEPS, ATTACKS.values(), strict=True):
        attack(folder / f"step{step}")
    return folder


@pytest.mark.slow
def test_all_others_are_traced_and_each_failure_is_one_line(place, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("jtrace.commands.trace.draw_all", lambda run, metrics: [])
    run, sets = tmp_path / "run", read_all([str(place / "mine.csv")])
    assert trace_into(run, refs(place, "step*"), sets, CONFIG) == 1
    assert sorted(path.stem.rpartition("@")[2] for path in (run / "metrics").glob("*.parquet")) == ["step0", "step1000"]
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    assert "panicked" not in printed
    notes = map(json.loads, (run / "failures.jsonl").read_text().splitlines())
    told = {note["revision"]: note["error"] for note in notes}
    for step, (_, cause) in zip(STEPS, ATTACKS.values(), strict=True):
        assert cause in told[f"step{step}"]
        assert str(place / f"step{step}") in told[f"step{step}"]
        assert told[f"step{step}"].isprintable()
        assert len(told[f"step{step}"]) <= LONGEST


def test_a_plan_tells_the_same_of_each(place, tmp_path):
    sets = read_all([str(place / "mine.csv")])
    for step, (_, cause) in zip(STEPS, ATTACKS.values(), strict=True):
        plan = make_plan(refs(place, f"step{step}"), sets, CONFIG, Hub(tmp_path), tmp_path / "none")
        assert not plan.feasible
        assert cause in plan_text(plan)


@pytest.mark.parametrize("name", ATTACKS)
def test_steering_and_converting_refuse_it_in_one_line(place, tmp_path, name):
    text = (place / "mine.csv").read_text().split(",")[1].partition("\n")[2]
    folder, cause = place / f"step{list(ATTACKS).index(name) + 1}", ATTACKS[name][1]
    with pytest.raises(InputError) as error:
        load_language_model(folder, "tiny", jnp.float32).encode([text + " e"])
    assert cause in str(error.value)
    if "config.json" in cause:
        with pytest.raises(InputError) as error:
            convert_folder(folder, tmp_path / "out", "hf")
        assert cause in str(error.value)
        assert not (tmp_path / "out").exists()
