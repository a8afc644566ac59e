"""`jtrace pretrain`: which training its flags ask for. The training itself is tested in tests/pretraining."""

import shutil
from pathlib import Path

import pytest

from jtrace.checkpoints.load import read_config_json
from jtrace.commands import pretrain as command
from jtrace.hub.client import Hub
from jtrace.models.presets import PRESETS
from jtrace.pretraining.config import PretrainConfig
from jtrace.pretraining.step import Optimisation
from tests.conftest import GOLDENS
from tests.in_process import refusal, run_command


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Runs the command without the training: the folder, the documents and the settings that it is given."""
    (tmp_path / "text.txt").write_text("a cat\na dog\n")
    (tmp_path / "more.jsonl").write_text('{"text": "a house"}\n')

    def run(*flags):
        calls = []
        monkeypatch.setattr(command, "pretrain", lambda *arguments: calls.append(arguments))
        named = [] if any(flag.startswith("--text") for flag in flags) else [f"--text={tmp_path}/text.txt"]
        assert run_command("pretrain", *named, f"--out={tmp_path}/run", *flags) == 0
        ((out, documents, config),) = calls
        assert out == tmp_path / "run"
        return list(documents), config

    return run


@pytest.mark.parametrize("name", PRESETS)
def test_a_new_model_is_trained_as_its_preset_says(asked, name):
    preset = PRESETS[name]
    documents, config = asked(f"--preset={name}", "--steps=4000", "--keep=log")
    assert documents == ["a cat", "a dog"]
    assert config == PretrainConfig(
        Optimisation(4000, preset.learning_rate, warmup=100),
        keep=(0, *(2**power for power in range(12)), 4000),
        context=preset.context,
        rows=preset.rows,
        preset=name,
        device_rows=preset.device_rows,
        remat=preset.remat,
    )


def test_a_checkpoint_is_trained_on_with_its_own_context(asked, tmp_path):
    folder = shutil.copytree(GOLDENS / "llama-full", tmp_path / "model")
    context = read_config_json(folder)["max_position_embeddings"]
    _, config = asked(f"--init_from={folder}", "--steps=30", "--keep=")
    assert config == PretrainConfig(
        Optimisation(30, 2e-4, warmup=30), (30,), context, 32, init_from=folder, device_rows=8, remat=True
    )


def test_what_is_said_wins(asked, tmp_path):
    flags = ["--warmup=0", "--learning_rate=0.5", "--final_fraction=0", "--beta1=0.8", "--beta2=0.9", "--clip=2"]
    flags += ["--weight_decay=0", "--keep=2-6/2", "--context=16", "--rows=3", f"--tokenizer={tmp_path}", "--seed=7"]
    flags += ["--vocab_size=300", "--dtype=bfloat16", "--save_every=4", "--validate_every=5", "--device_rows=1"]
    _, config = asked("--preset=1b", "--steps=8", "--noremat", *flags)
    assert config == PretrainConfig(
        Optimisation(8, 0.5, warmup=0, final_fraction=0.0, beta1=0.8, beta2=0.9, weight_decay=0.0, clip=2.0),
        (2, 4, 6, 8),
        context=16,
        rows=3,
        preset="1b",
        tokenizer=Path(tmp_path),
        vocab_size=300,
        dtype="bfloat16",
        seed=7,
        validate_every=5,
        save_every=4,
        device_rows=1,
        remat=False,
    )


def test_texts_are_read_one_after_the_other(asked, tmp_path, capsys):
    """Several with commas, or the flag repeated."""
    files = [f"{tmp_path}/{name}" for name in ("more.jsonl", "text.txt")]
    wanted = ["a house", "a cat", "a dog"]
    assert asked("--preset=tiny", "--steps=4", f"--text={','.join(files)}")[0] == wanted
    assert asked("--preset=tiny", "--steps=4", *(f"--text={file}" for file in files))[0] == wanted
    line = f"kept 4 steps in {tmp_path}/run; trace them with --checkpoints={tmp_path}/run\n"
    assert capsys.readouterr().out == 2 * line


@pytest.mark.usefixtures("hub_client")
def test_a_revision_of_the_hub_is_downloaded_to_go_on_from(asked, server, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "hub_in", lambda folder: Hub(Path(folder) / "hub", endpoint=server.url))
    _, config = asked("--init_from=org/tiny@step10", "--steps=5", f"--cache_dir={tmp_path}/cache")
    assert config.init_from.is_relative_to(tmp_path / "cache")
    assert (config.init_from / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps=5"], "give either --preset (tiny, small, 160m, 1b), for a new model, or --init_from"),
        (["--steps=5", "--preset=tiny", "--init_from=x"], "give either --preset"),
        (["--steps=5", "--preset=huge"], "--preset=huge: not known; there are tiny, small, 160m, 1b"),
        (["--steps=0", "--preset=tiny"], "--steps=0: a number above 0 is needed"),
        (["--steps=5", "--preset=tiny", "--keep=9"], "'9' does not lie in 0 to 5"),
        (["--steps=5", "--preset=tiny", "--text="], "--text"),
    ],
)
def test_wrong_flags_are_one_line(flags, message, tmp_path):
    text = [] if any(flag.startswith("--text") for flag in flags) else ["--text=world"]
    assert message in refusal("pretrain", *text, f"--out={tmp_path}/run", *flags)
    assert not (tmp_path / "run").exists()
